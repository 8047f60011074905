"""Classes of equal answers, which vote; `eager_sgl.search` counts the votes and breaks ties."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

__all__ = ["vote_classes"]


def vote_classes(answers: Sequence[Hashable | None]) -> list[int | None]:
    """For each of a prompt's sequences the index of the first one with an equal answer.

    None where there is no answer: such a sequence does not vote.
    """
    first: dict[Hashable, int] = {}
    return [
        None if answer is None else first.setdefault(answer, index)
        for index, answer in enumerate(answers)
    ]
