"""Tasks: prompts, reference answers, and the judgement on what a model wrote.

`find_task(name)` gives a `Task`; `task.load(…)` its prompts, `task.score(sample, text)` a `Score`.
A new task over a dataset of the hub is one new file in `evals/tasks/public/`, which explains how.
`gym` has the tasks of the reasoning-gym library. Other folders use the names below, and
`countdown_rules` for the rules of Countdown.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import cast

from evals.tasks import public
from evals.tasks.gym import PREFIX, GymTask
from evals.tasks.task import Message, Sample, Task

__all__ = ["PROMPT_FILE", "TASKS", "Message", "Sample", "Task", "find_task"]

TASKS = {
    "countdown": "evals.tasks.countdown",
    "countdown_wordy": "evals.tasks.countdown_wordy",
    **{
        module.name: f"evals.tasks.public.{module.name}"
        for module in pkgutil.iter_modules(public.__path__)
    },
}
"""The module of a task by name; it is imported when the task is used, and holds it as `TASK`."""

PROMPT_FILE = ".jsonl"
"""The suffix of a task that is the user's file of prompts."""


def find_task(name: str, copy: Path | None = None) -> Task:
    """A task by its name.

    Args:
        name: a key of `TASKS`, the path of a file with the user's prompts (`.jsonl`), or
            `reasoning_gym:NAME` with parameters of the data set as a query.
        copy: see `Task.using`; None leaves the task as it is.

    Raises:
        ValueError: the name is unknown, or the file cannot be read.
    """
    if name.endswith(PROMPT_FILE):
        from evals.tasks.prompt_file import PromptFile

        if copy is not None:
            raise ValueError(f"--dataset is for the tasks with a dataset; {name} is read itself")
        return PromptFile.read(Path(name))
    if name.startswith(PREFIX):
        gym = GymTask.read(name)
        return gym if copy is None else gym.using(copy)
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise ValueError(
            f"unknown task {name!r}; choose from {known}, or give {PREFIX}NAME or a .jsonl file"
        )
    task = cast(Task, importlib.import_module(TASKS[name]).TASK)
    return task if copy is None else task.using(copy)
