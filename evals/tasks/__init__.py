"""The vocabulary of tasks, and which there are.

A task is one small module with an object `TASK`; its module is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, cast

from evals.grading.score import Score

__all__ = [
    "OWN_PROMPTS",
    "TASKS",
    "Defaults",
    "Message",
    "Sample",
    "Score",
    "Task",
    "choose",
    "find_task",
    "user_message",
]

NAMES = (
    "countdown",
    "countdown_wordy",
    "aime_2024",
    "aime_2025",
    "hmmt_feb_2025",
    "gpqa_diamond",
    "gpqa_diamond_original",
    "humaneval_plus",
    "math_500",
    "gsm8k",
)
TASKS = {name: f"evals.tasks.{name}" for name in NAMES}
"""The module that holds each task."""

OWN_PROMPTS = ".jsonl"

Message = dict[str, str]


@dataclass(frozen=True)
class Sample:
    """One prompt of a task.

    Attributes:
        id: unique within the task, and the same in every run.
        prompt: chat messages.
        level: of difficulty, 1 the easiest; None where a task has no levels.
        reference: what the task judges answers by.
        line: of the file that it was read from, where that is the user's own.
    """

    id: str
    prompt: list[Message]
    level: int | None
    reference: Any
    line: int | None = None

    @property
    def name(self) -> str:
        """Which prompt it is, for messages."""
        return repr(self.id) + (f" (line {self.line})" if self.line else "")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a run of a task uses where the command line is silent.

    Attributes:
        threshold: θ in nats, calibrated for the model that the task is usually run with; None
            where a task belongs to no model.
        max_new_tokens: length limit of one sequence.
        chunk_tokens: tokens asked for in one request while a sequence is monitored.
        limit: number of prompts; None for all.
        model: the folder of the model; None for the first bundled one.
    """

    threshold: float | None
    max_new_tokens: int
    chunk_tokens: int
    limit: int | None = None
    model: Path | None = None


class Task(Protocol):
    """Loads prompts and judges what a model wrote; called from several threads at once."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def defaults(self) -> Defaults:
        """What a run uses where the command line is silent."""

    @property
    def can_vote(self) -> bool:
        """Whether answers fall into classes, so that a majority means something."""

    @property
    def has_labels(self) -> bool:
        """Whether there are reference answers to judge by."""

    @property
    def needs_isolation(self) -> bool:
        """Whether judging runs programs that the model wrote."""

    def using(self, copy: Path) -> Self:
        """The same task on a copy of its data, or on other data in the same schema."""

    def to_json(self) -> dict[str, Any] | None:
        """Where the data comes from, for `config.json`; None where it belongs to the project."""

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        """At most `limit` samples of the given levels (None: no restriction), chosen by the seed.

        Raises:
            ValueError: a level that the task does not have.
        """

    def score(self, sample: Sample, text: str) -> Score:
        """Judge a whole sequence.

        Args:
            sample: that it answers.
            text: what follows the reasoning, or all of it where no reasoning closed.
        """

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        """Distributions that judging a sample leaves decisions to."""

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        """For each of a sample's answers the index of the first equivalent one.

        None where there is no answer, or one that counts for nothing.
        """


def find_task(name: str, copy: Path | None = None) -> Task:
    """A task.

    Args:
        name: one of `TASKS`, or the path of a file with prompts of one's own (`.jsonl`).
        copy: see `Task.using`; None leaves the task as it is.

    Raises:
        ValueError: there is none, or the file holds something else.
    """
    if name.endswith(OWN_PROMPTS):
        from evals.tasks.own import OwnPrompts

        if copy is not None:
            raise ValueError(f"--dataset is for the tasks with a dataset; {name} is read itself")
        return OwnPrompts.read(Path(name))
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise ValueError(f"unknown task {name!r}; there is {known}, or a .jsonl file of your own")
    task = cast(Task, importlib.import_module(TASKS[name]).TASK)
    return task if copy is None else task.using(copy)


def user_message(content: str) -> list[Message]:
    """A prompt of one message."""
    return [{"role": "user", "content": content}]


def choose(
    samples: Iterable[Sample], limit: int | None, levels: tuple[int, ...] | None, seed: int
) -> list[Sample]:
    """Samples in a seeded order that goes round the levels, so that any first n are balanced.

    A smaller limit gives the first part of what a larger one gives.

    Raises:
        ValueError: a level that no sample has.
    """
    groups: dict[int | None, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.level, []).append(sample)
    if levels is not None:
        _require_levels(levels, groups)
        groups = {level: groups[level] for level in sorted(set(levels))}
    for level, group in groups.items():
        random.Random(f"{seed}/{level}").shuffle(group)
    longest = max(map(len, groups.values()), default=0)
    turns = (
        group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)
    )
    return list(turns)[:limit]


def _require_levels(levels: Iterable[int], known: Iterable[int | None]) -> None:
    unknown = sorted(set(levels) - set(known))
    if unknown:
        names = ", ".join(str(level) for level in known if level is not None)
        raise ValueError(f"unknown level {unknown[0]}; there is {names or 'none'}")
