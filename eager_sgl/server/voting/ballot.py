"""The result of a vote: the answer that wins, and the sequence whose text is the choice."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.core import Sequence
from eager_sgl.engine.protocol import Json
from eager_sgl.voting.answers import AnswerClasses
from eager_sgl.voting.votes import (
    cast_votes,
    vote_confidence,
    vote_outcome,
    vote_totals,
    vote_winner,
)
from eager_sgl.voting.weighing import by_probability, weights_of

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
            each sequence is one vote; None if they weigh.
    """

    chosen: int
    votes: dict[Hashable, float] | None = None
    answer: Hashable | None = None
    confidence: float | None = None

    @property
    def entry(self) -> Json:
        """Its part of the bill."""
        if self.votes is None:
            return {"chosen": self.chosen}
        confidence = {} if self.confidence is None else {"confidence": self.confidence}
        votes = {"answer": self.answer, "votes": self.votes}
        return votes | confidence | {"chosen": self.chosen}


def ballot_of(sequences: Items[Sequence], classes: AnswerClasses | None, *, weighs: bool) -> Ballot:
    """The vote of sequences, at least one; ties go to the answer that occurs first.

    Args:
        classes: their answers; those of sequences that were ended do not count. None: nothing is
            voted on.
        weighs: whether sequences weigh as much as their probability, where it is known
            (`by_probability`), and not as one vote each.
    """
    nothing: list[str | None] = [None] * len(sequences)
    answers = nothing if classes is None else classes(sequences)
    outcome = vote_outcome(sequences, answers, _weights(sequences, answers) if weighs else None)
    assert outcome.sequence is not None, "there are sequences"
    if classes is None:
        return Ballot(outcome.sequence)
    confidence = None if weighs else outcome.confidence
    return Ballot(outcome.sequence, dict(outcome.votes), outcome.answer, confidence)


def _weights(sequences: Items[Sequence], answers: Items[str | None]) -> list[float] | None:
    """By the probabilities of the sequences that vote; None where one of these is not known."""
    votes = cast_votes(sequences, answers, [False] * len(sequences))
    voters = (s for s, vote in zip(sequences, votes, strict=True) if vote is not None)
    if any(sequence.raw_logprob is None for sequence in voters):
        return None
    return weights_of(sequences, votes, by_probability)


def tally(answers: Items[str | None]) -> Json:
    """The votes of independent samples so far."""
    totals = vote_totals(answers)
    answer = vote_winner(answers)
    return {"answer": answer, "votes": totals, "confidence": vote_confidence(totals)}
