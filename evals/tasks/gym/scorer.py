"""The library's scorers, called in the judges' workers: a scorer may hang on an answer."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from evals.grading.workers import shared_pool

__all__ = ["FULL_CREDIT", "Credit", "Dataset", "credit", "equal_groups"]

FULL_CREDIT = 1.0
LIMIT_SECONDS = 20.0
DECOY = "\N{REPLACEMENT CHARACTER}"
"""A reference that no answer equals."""

Dataset = tuple[str, dict[str, str]]
"""Name and parameters."""


class Credit(NamedTuple):
    """A score of the library.

    Attributes:
        share: from 0 to 1.
        failure: the exception that a scorer raised on the answer; None for most.
    """

    share: float
    failure: str | None = None


def credit(dataset: Dataset, item: bytes, answer: str) -> Credit:
    """The library's score of an answer; none if its scorer raises an exception on it.

    Raises:
        WorkerError: the scorer did not end in time, or took too much memory.
    """
    pool = shared_pool("evals.tasks.gym.library")
    given: Credit = pool.call(_credit, dataset, item, answer, limit=LIMIT_SECONDS)
    return given


def equal_groups(dataset: Dataset, answers: Sequence[str]) -> list[int]:
    """For each of some different answers the index of the first that the scorer takes for equal.

    Two answers are equal if one has full credit where the other is the reference, and not where
    the reference is a decoy. The scorer sees no other part of an item, so that no label and no
    rule of the puzzle decides: a scorer that verifies answers by the puzzle takes none for equal.

    Raises:
        WorkerError: as of `credit`.
    """
    pool = shared_pool("evals.tasks.gym.library")
    groups: list[int] = pool.call(_equal_groups, dataset, list(answers), limit=LIMIT_SECONDS)
    return groups


def _credit(dataset: Dataset, item: bytes, answer: str) -> Credit:
    """Runs in a worker."""
    scorer, entry = _built(dataset), pickle.loads(item)
    try:
        return Credit(float(scorer.score_answer(answer, entry)))
    except MemoryError:
        raise
    except Exception as error:  # some scorers raise on answers that they cannot read
        return Credit(0.0, type(error).__name__)


def _equal_groups(dataset: Dataset, answers: Sequence[str]) -> list[int]:
    """Runs in a worker."""
    scorer = _built(dataset)
    groups: list[int] = []
    for index, answer in enumerate(answers):
        heads = (
            head for head in dict.fromkeys(groups) if _are_equal(scorer, answers[head], answer)
        )
        groups.append(next(heads, index))
    return groups


def _are_equal(scorer: Any, left: str, right: str) -> bool:
    return any(
        _has_full_credit(scorer, answer, reference) and not _has_full_credit(scorer, answer, DECOY)
        for answer, reference in ((left, right), (right, left))
    )


def _has_full_credit(scorer: Any, answer: str, reference: str) -> bool:
    item = {"question": "", "answer": reference, "metadata": {}}
    try:
        return float(scorer.score_answer(answer, item)) >= FULL_CREDIT
    except Exception:  # the scorer needs more of an item, or cannot read the reference
        return False


def _built(dataset: Dataset) -> Any:
    from evals.tasks.gym.library import build

    return build(*dataset)
