"""The result of a vote: the answer that wins, and the sequence whose text is the choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.core import Sequence
from eager_sgl.engine.protocol import Json
from eager_sgl.search.answers import AnswerClasses
from eager_sgl.search.votes import (
    majority_confidence,
    vote_totals,
    vote_weights,
    vote_winner,
)

__all__ = ["Ballot", "ballot_of", "tally"]


@dataclass(frozen=True)
class Ballot:
    """The result of a vote.

    Attributes:
        chosen: index of the sequence whose text is the choice: of those with the winning answer, or
            of all if there is none, a whole one before others, and then the most likely one.
        votes: of every answer; None where nothing was voted on.
        answer: the one with the most votes; None if no sequence has an answer.
        confidence: probability that the leading answer is the likelier one of the first two, if
            sequences are independent samples; None if they are not.
    """

    chosen: int
    votes: dict[str, float] | None = None
    answer: str | None = None
    confidence: float | None = None

    @property
    def entry(self) -> Json:
        """Its part of the bill."""
        if self.votes is None:
            return {"chosen": self.chosen}
        confidence = {} if self.confidence is None else {"confidence": self.confidence}
        votes = {"answer": self.answer, "votes": self.votes}
        return votes | confidence | {"chosen": self.chosen}


def ballot_of(
    sequences: Items[Sequence], classes: AnswerClasses | None, *, are_samples: bool
) -> Ballot:
    """The vote of sequences, at least one; ties go to the answer that occurs first.

    Args:
        classes: their answers; those of sequences that were ended do not count. None: nothing is
            voted on.
        are_samples: whether sequences are independent samples, which count as one vote each. Others
            weigh as much as their probability, where it is known (`vote_weights`).
    """
    if classes is None:
        return Ballot(_strongest(sequences, range(len(sequences))))
    ended = [sequence.finish_reason == "abort" for sequence in sequences]
    pairs = zip(classes(sequences), ended, strict=True)
    answers = [None if is_ended else answer for answer, is_ended in pairs]
    weights = None if are_samples else _weights(sequences)
    winner = vote_winner(answers, weights)
    totals = vote_totals(answers, weights)
    voters = [index for index, answer in enumerate(answers) if answer == winner]
    return Ballot(
        chosen=_strongest(sequences, voters),
        votes=totals,
        answer=winner,
        confidence=_confidence(totals) if are_samples else None,
    )


def _strongest(sequences: Items[Sequence], indices: Iterable[int]) -> int:
    return max(indices, key=lambda index: _strength(sequences[index]))


def _strength(sequence: Sequence) -> tuple[bool, float]:
    logprob = sequence.raw_logprob
    return sequence.finish_reason == "stop", float("-inf") if logprob is None else logprob


def _weights(sequences: Items[Sequence]) -> list[float] | None:
    known = [sequence.raw_logprob for sequence in sequences if sequence.raw_logprob is not None]
    return vote_weights(known) if len(known) == len(sequences) else None


def tally(answers: Items[str | None]) -> Json:
    """The votes of independent samples so far."""
    totals = vote_totals(answers)
    answer = vote_winner(answers)
    return {"answer": answer, "votes": totals, "confidence": _confidence(totals)}


def _confidence(totals: Mapping[str, float]) -> float:
    leading, second = (*sorted(map(int, totals.values()), reverse=True), 0, 0)[:2]
    return majority_confidence(leading, second)
