"""Majority votes and their ties: the only definition, for metrics, graders and programs.

The library's own rules differ on purpose: `eager_sgl.search.stopping.Consensus` needs the two
highest counts and no winner, `eager_sgl.search.utility.doubt` counts a repeated sequence once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

__all__ = ["vote_classes", "vote_totals", "vote_winner"]

Answer = TypeVar("Answer", bound=Hashable)


def vote_classes(answers: Sequence[Hashable | None]) -> list[int | None]:
    """For each of a prompt's sequences the index of the first one with an equal answer.

    None where there is no answer: such a sequence does not vote.
    """
    first: dict[Hashable, int] = {}
    return [
        None if answer is None else first.setdefault(answer, index)
        for index, answer in enumerate(answers)
    ]


def vote_totals(
    answers: Sequence[Answer | None], weights: Sequence[float] | None = None
) -> dict[Answer, float]:
    """Votes per answer, in the order in which the answers first occur.

    Args:
        answers: one per sequence, or its class; None does not vote.
        weights: one per sequence, for example its probability under the model; None counts every
            sequence as 1.
    """
    totals: dict[Answer, float] = {}
    counted = [1] * len(answers) if weights is None else weights
    for answer, weight in zip(answers, counted, strict=True):
        if answer is not None:
            totals[answer] = totals.get(answer, 0) + weight
    return totals


def vote_winner(
    answers: Sequence[Answer | None], weights: Sequence[float] | None = None
) -> Answer | None:
    """The answer with the most votes; of a tie the one that occurs first; None without votes."""
    totals = vote_totals(answers, weights)
    return max(totals, key=totals.__getitem__, default=None)
