"""The vocabulary of tasks: what a task is, its prompts, and the order in which a run takes them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from evals.grading.score import Score

__all__ = ["Defaults", "Message", "Sample", "Task", "choose", "user_message"]

Message = dict[str, str]
"""A chat message: `role` and `content`."""


@dataclass(frozen=True)
class Sample:
    """A prompt of a task.

    Attributes:
        id: unique within the task, and the same in every run.
        prompt: chat messages.
        level: of difficulty, 1 the easiest; None where a task has no levels.
        reference: the task's reference answer, in a form that the task defines.
        line: line number in the user's file of prompts; None for other tasks.
    """

    id: str
    prompt: list[Message]
    level: int | None
    reference: Any
    line: int | None = None

    @property
    def name(self) -> str:
        """The id, with the line number of a user's file, for messages."""
        return repr(self.id) + (f" (line {self.line})" if self.line else "")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Values of a task for options that the command line leaves out.

    Attributes:
        threshold: θ in nats, calibrated for the model that the task is usually run with; None
            where a task belongs to no model.
        max_new_tokens: length limit of a sequence.
        chunk_tokens: tokens per request while a sequence is monitored.
        limit: number of prompts; None for all.
        model: the folder of the model; None for the first bundled model.
        answer_start: the text between the reasoning and an answer.
    """

    threshold: float | None
    max_new_tokens: int
    chunk_tokens: int
    limit: int | None = None
    model: Path | None = None
    answer_start: str = ""


class Task(Protocol):
    """Loads prompts and judges what a model wrote; called from several threads at once."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def defaults(self) -> Defaults:
        """Values for options that the command line leaves out."""

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

    def to_json(self) -> dict[str, object] | None:
        """The source of the data, for `config.json`; None where the project ships it."""

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        """At most `limit` samples of the given levels (None: no restriction), chosen by the seed.

        Raises:
            ValueError: a level that the task does not have.
        """

    def score(self, sample: Sample, text: str) -> Score:
        """Judge a sequence.

        Args:
            sample: the prompt that the sequence answers.
            text: the text after the reasoning, or the whole text where no reasoning was closed.
        """

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        """Distributions whose version may change the judgement on a sample."""

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        """For each of a sample's answers the index of the first equivalent answer.

        None where there is no answer, or an answer that does not vote.
        """


def user_message(content: str) -> list[Message]:
    """A prompt of a single user message."""
    return [{"role": "user", "content": content}]


def choose(
    samples: Iterable[Sample], limit: int | None, levels: tuple[int, ...] | None, seed: int
) -> list[Sample]:
    """Samples in a seeded order that alternates between levels: any first n are balanced.

    A smaller limit gives the first part of what a larger limit gives.

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
    turns = itertools.zip_longest(*groups.values())
    return [sample for turn in turns for sample in turn if sample is not None][:limit]


def _require_levels(levels: Iterable[int], known: Iterable[int | None]) -> None:
    unknown = sorted(set(levels) - set(known))
    if unknown:
        names = ", ".join(str(level) for level in known if level is not None)
        raise ValueError(f"unknown level {unknown[0]}; choose from {names or 'none'}")
