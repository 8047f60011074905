"""The name of a task of reasoning-gym, `reasoning_gym:NAME?size=…&seed=…&…`, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

__all__ = ["MAX_SEED", "PREFIX", "Selection", "read_selection"]

PREFIX = "reasoning_gym:"
DEFAULT_SIZE, DEFAULT_SEED = 100, 0
MAX_SIZE, MAX_SEED = 40_000, 4_000


@dataclass(frozen=True)
class Selection:
    """Questions of reasoning-gym.

    Attributes:
        name: of a data set of the library.
        size: number of questions.
        seed: of the questions; no question of an even seed is one of an odd seed.
        parameters: fields of the data set's configuration, as texts.
    """

    name: str
    size: int
    seed: int
    parameters: Mapping[str, str]

    def __str__(self) -> str:
        """The name of the task, with its parameters in alphabetical order."""
        given = {"size": str(self.size), "seed": str(self.seed), **self.parameters}
        quoted = {
            key: value.replace("%", "%25").replace("&", "%26") for key, value in given.items()
        }
        pairs = (f"{key}={quoted[key]}" for key in sorted(quoted))
        return f"{PREFIX}{self.name}?{'&'.join(pairs)}"


def read_selection(task: str) -> Selection:
    """The parts of a task's name; whether the library knows them is found later.

    Raises:
        ValueError: the text is not of the form, or its size or seed is out of range.
    """
    name, _, query = task.removeprefix(PREFIX).partition("?")
    if not name:
        raise ValueError(
            f"task {task!r} names no data set; give {PREFIX}NAME, as {PREFIX}chain_sum"
        )
    given: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key in given:
            raise ValueError(
                f"task {task!r} holds {part!r}; parameters are name=value with & between them, "
                "each once"
            )
        given[key] = unquote(value)
    size = _whole(task, "size", given.pop("size", str(DEFAULT_SIZE)), 1, MAX_SIZE)
    seed = _whole(task, "seed", given.pop("seed", str(DEFAULT_SEED)), 0, MAX_SEED)
    return Selection(name, size, seed, given)


def _whole(task: str, name: str, text: str, minimum: int, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
        raise ValueError(
            f"{name} of task {task!r} is {text}; it must be a whole number from {minimum} to "
            f"{maximum}"
        )
    return int(text)
