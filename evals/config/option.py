"""An option of a command line: its name, the type of its value, and the field that it sets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass

from eager_sgl import EagerConfig, Probing, Reallocation, SearchConfig

__all__ = ["Option"]

EXPECTED = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Option:
    """An option of a command line.

    Attributes:
        name: with its dashes.
        help: "%(default)s" in it is the default.
        kind: reads the value; bool makes a switch, which has no value.
        default: None for an option whose default depends on others.
        choices: the only values, if they are few.
        of: the configuration that has the option as a field, with the default; None for the others.
        field: its name there; "" for that of the option.
    """

    name: str
    help: str
    kind: Callable[[str], object] = str
    default: object = None
    choices: Collection[str] | None = None
    of: EagerConfig | SearchConfig | Reallocation | Probing | None = None
    field: str = ""

    @property
    def key(self) -> str:
        """The option's name in a namespace."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def target(self) -> str:
        """The name of the field that the option sets."""
        return self.field or self.key

    def read(self, text: str) -> object:
        """The value; a wrong one is named."""
        try:
            return self.kind(text)
        except ValueError as error:
            expected = EXPECTED[self.kind]  # type: ignore[index]  # no other kind refuses a text
            message = f"{self.name} is {text!r}; it must be {expected}"
            raise argparse.ArgumentTypeError(message) from error

    def add_to(self, group: argparse._ActionsContainer) -> None:
        """Declare the option."""
        if self.kind is bool:
            group.add_argument(self.name, action="store_true", help=self.help)
            return
        default = self.default if self.of is None else getattr(self.of, self.target)
        group.add_argument(
            self.name, type=self.read, default=default, choices=self.choices, help=self.help
        )
