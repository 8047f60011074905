"""The parser of `evals/run.py`, and the configurations that its options set."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from eager_sgl import EagerConfig, Probing, Reallocation, SearchConfig
from evals.config.command_line import GROUPS, OPTIONS
from evals.config.option import Option
from evals.records.plan import SEARCHES

__all__ = ["build_parser", "configured", "field_names", "in_options"]

Config = TypeVar("Config", EagerConfig, SearchConfig, Reallocation, Probing)
EXIT_CODES = (
    "Exit codes: 0, all results exist; 1, the run was broken off (no server, another model than "
    "before, a full disk); 2, the command line or the output folder was refused; 3, some prompts "
    "failed, all others have finished; 130 and 143, interrupted by ctrl-C or SIGTERM. After 3, 130 "
    "and 143, and after 1 once its cause is gone, the same command continues the run and retries "
    "the prompts that failed. With --replay 3 means that some results do not agree."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, without the usage."""
        if message.startswith("argument --") and "; it must be " in message:
            message = message.partition(": ")[2]
        self.exit(2, f"error: {message}\n")


def build_parser(methods: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; the values are still to be checked.

    Args:
        methods: all names; the searches are not run by default.
    """
    parser = _Parser(
        prog="evals/run.py",
        allow_abbrev=False,
        description="Run test-time scaling methods on a task and compare accuracy and cost.",
        epilog=EXIT_CODES,
    )
    defaults = ",".join(name for name in methods if name not in SEARCHES)
    for title, options in GROUPS.items():
        group = parser if title == "options" else parser.add_argument_group(title)
        for option in options:
            if option.name == "--methods":
                help_text = option.help.format(methods=", ".join(methods))
                option = replace(option, default=defaults, help=help_text)
            option.add_to(group)
    return parser


def configured(base: Config, options: argparse.Namespace, **others: Any) -> Config:
    """A configuration with the values of all options that set its fields, and with others."""
    values = {option.target: getattr(options, option.key) for option in _options_of(base)}
    return replace(base, **values, **others)


def field_names(config: Config) -> tuple[str, ...]:
    """The fields of a configuration that options set."""
    return tuple(option.target for option in _options_of(config))


def _options_of(config: object) -> list[Option]:
    return [option for option in OPTIONS if type(option.of) is type(config)]


FIELDS = {
    "threshold": "--theta",
    "max_extra_factor": "--extra-cap",
    "seed": "--seeds",
}
"""Options of the fields that `evals.config.parse` sets."""


def in_options(message: str) -> str:
    """A message that begins with a field's name, with the option in its place."""
    names = {option.target: option.name for option in OPTIONS} | FIELDS
    return re.sub(r"^\w+(?= (is|are|has) )", lambda field: names.get(field[0], field[0]), message)
