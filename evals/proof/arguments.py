"""The arguments of a proof, as its pilot and its page have them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evals.config.command_line import GROUPS
from evals.tasks import PROMPT_FILE

__all__ = ["of_parallel", "public", "task_name"]

_OTHERS = ("searches: best_first, swor and trie_parallel", "vote")
"""Groups of options that a run of parallel alone refuses."""


def of_parallel(arguments: Sequence[str]) -> list[str]:
    """Without the options of methods that a pilot does not run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for title in _OTHERS:
        for option in GROUPS[title]:
            option.add_to(parser)
    return parser.parse_known_args(arguments)[1]


def public(arguments: Sequence[str]) -> list[str]:
    """Without the key, and with names in place of the paths of the model and of a prompt file."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--api-key", "--task", "--model"):
        parser.add_argument(option)
    found, kept = parser.parse_known_args(arguments)
    task = [] if found.task is None else ["--task", task_name(found.task)]
    model = [] if found.model is None else ["--model", Path(found.model).name]
    return [*kept, *task, *model]


def task_name(task: str) -> str:
    """The name of a task; that of the file where it is a prompt file."""
    return Path(task).name if task.endswith(PROMPT_FILE) else task
