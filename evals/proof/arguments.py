"""The arguments of a proof, as its pilot and its page have them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from evals.config.command_line import GROUPS
from evals.config.readers import is_adaptive
from evals.tasks import PROMPT_FILE

__all__ = ["model_name", "of_parallel", "public", "task_name"]

_OTHERS = ("searches: best_first, swor and trie_parallel", "vote")
"""Groups of options that a run of parallel alone refuses."""


def of_parallel(arguments: Sequence[str]) -> list[str]:
    """Without the options of methods that a pilot does not run.

    The width of searches and a fixed θ stay: they are in the configuration of every run, by which
    one continues.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--theta")
    for title in _OTHERS:
        for option in GROUPS[title]:
            if option.name != "--width":
                option.add_to(parser)
    found, kept = parser.parse_known_args(arguments)
    if found.theta is not None and not is_adaptive(found.theta):
        kept += ["--theta", found.theta]
    return kept


def public(arguments: Sequence[str]) -> list[str]:
    """Without the key, addresses and the folder, and with names in place of other paths."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in (*_SHORTENED, "--api-key", "--output-dir"):
        parser.add_argument(option)
    found, kept = parser.parse_known_args(arguments)
    for option, shorten in _SHORTENED.items():
        value = getattr(found, option.removeprefix("--"))
        kept += [] if value is None else [option, shorten(value)]
    return kept


def task_name(task: str) -> str:
    """The name of a task; that of the file where it is a prompt file."""
    return Path(task).name if task.endswith(PROMPT_FILE) else task


def model_name(model: str) -> str:
    """An id of the hub as it is; the last part of the path of a folder."""
    path = Path(model)
    return path.name if path.is_absolute() or path.exists() else model


_SHORTENED: dict[str, Callable[[str], str]] = {
    "--server": lambda _: "URL",
    "--router": lambda _: "URL",
    "--task": task_name,
    "--model": model_name,
    "--dataset": lambda path: Path(path).name,
    "--theta": lambda given: Path(given).name,
}
"""How a page has the value of an option that may name a machine or a folder."""
