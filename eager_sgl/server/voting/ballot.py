"""The result of a vote: the answer that wins, and the sequence whose text is the choice."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.core import Sequence
from eager_sgl.engine.protocol import Json
from eager_sgl.voting.answers import AnswerClasses
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.votes import cast_votes, vote_outcome, vote_totals
from eager_sgl.voting.weighing import by_probability, weights_of

__all__ = ["Ballot", "Poll"]


@dataclass(frozen=True)
class Ballot:
    """The result of a vote.

    Attributes:
        num_sequences: number of sequences.
        chosen: index of the sequence whose text is the choice: of those with the winning answer, or
            of all if there is none, a whole one before others, and then the most likely one.
        votes: of every answer, the weights that decide; None where nothing was voted on.
        counts: number of sequences with every answer.
        answer: the one with the most votes; None if no sequence has an answer.
        confidence: probability that the leading answer is the likelier one of the first two, if
            each sequence is one vote; None if they weigh, or without an answer.
    """

    num_sequences: int
    chosen: int
    votes: dict[Hashable, float] | None = None
    counts: dict[Hashable, int] | None = None
    answer: Hashable | None = None
    confidence: float | None = None

    @property
    def entry(self) -> Json:
        """Its part of the bill."""
        return ({} if self.votes is None else self.result) | {"chosen": self.chosen}

    @property
    def event(self) -> Json:
        """The fields of `eager.vote`."""
        return {"sequences": self.num_sequences} | self.result

    @property
    def result(self) -> Json:
        """The answer and its votes."""
        confidence = {} if self.confidence is None else {"confidence": self.confidence}
        return {"answer": self.answer, "votes": self.votes, "counts": self.counts} | confidence


class Poll:
    """How the sequences of a request vote, and the votes so far.

    Args:
        classes: their answers; None: nothing is voted on.
        weighs: whether sequences weigh as much as their probability, where it is known
            (`by_probability`), and not as one vote each.
        cutting: when sequences are cut, which do not vote then; None for never.

    Attributes:
        latest: the ballot of the sequences that were counted last; None before any.
    """

    def __init__(
        self,
        classes: AnswerClasses | None = None,
        *,
        weighs: bool = False,
        cutting: Cutting | None = None,
    ) -> None:
        self.classes, self.cutting = classes, cutting
        self.latest: Ballot | None = None
        self._weighs = weighs

    def __call__(self, sequences: Items[Sequence]) -> list[str | None]:
        """The answers of sequences, which are counted."""
        assert self.classes is not None, "a vote has answers"
        self.note(sequences)
        return self.classes(sequences)

    def note(self, sequences: Items[Sequence]) -> None:
        """Count the votes of sequences."""
        if sequences:
            self.latest = self.ballot(sequences)

    def ballot(self, sequences: Items[Sequence]) -> Ballot:
        """The vote of sequences, at least one; ties go to the answer that occurs first.

        Sequences that were ended do not vote.
        """
        assert sequences, "a ballot has sequences"
        nothing: list[str | None] = [None] * len(sequences)
        answers = nothing if self.classes is None else self.classes(sequences)
        cut = [False] * len(sequences) if self.cutting is None else self.cutting.cut(sequences)
        cast = cast_votes(sequences, answers, cut)
        weights = _weights(sequences, cast) if self._weighs else None
        outcome = vote_outcome(sequences, answers, weights, cut)
        assert outcome.sequence is not None, "there are sequences"
        if self.classes is None:
            return Ballot(len(sequences), outcome.sequence)
        return Ballot(
            len(sequences),
            outcome.sequence,
            dict(outcome.votes),
            {answer: int(number) for answer, number in vote_totals(cast).items()},
            outcome.answer,
            None if self._weighs or outcome.answer is None else outcome.confidence,
        )


def _weights(sequences: Items[Sequence], cast: Items[str | None]) -> list[float] | None:
    """By the probabilities of the sequences that vote; None where one of these is not known."""
    voters = (s for s, vote in zip(sequences, cast, strict=True) if vote is not None)
    if any(sequence.raw_logprob is None for sequence in voters):
        return None
    return weights_of(sequences, cast, by_probability)
