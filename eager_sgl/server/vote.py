"""The method `vote`: the boxed answer that most samples give, with its strongest sample as text."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.core import Sequence
from eager_sgl.search.votes import majority_confidence, vote_totals, vote_winner

__all__ = ["VoteResult", "boxed_answers", "verdict_of"]

_BOX = "\\boxed{"
_MAX_CHARACTERS = 1000
"""Of the content of a box; longer ones are none, so that reading stays linear."""


@dataclass(frozen=True)
class VoteResult:
    """The result of a vote.

    Attributes:
        answer: the one with the most votes; None if no sequence has an answer.
        votes: of every answer.
        confidence: probability that the leading answer is the likelier one of the first two.
        sequence: index of the sequence whose text is the choice: of those with the answer, or of
            all if there is none, the most likely one.
    """

    answer: str | None
    votes: dict[str, float]
    confidence: float
    sequence: int


def verdict_of(sequences: Items[Sequence]) -> VoteResult:
    """The vote of sequences, at least one; ties go to the answer that occurs first."""
    answers = boxed_answers(sequences)
    votes, winner = vote_totals(answers), vote_winner(answers)
    leading, second = (*sorted(map(int, votes.values()), reverse=True), 0, 0)[:2]
    voters = [index for index, answer in enumerate(answers) if answer == winner]
    return VoteResult(
        answer=winner,
        votes=votes,
        confidence=majority_confidence(leading, second),
        sequence=max(voters, key=lambda index: _strength(sequences[index])),
    )


def _strength(sequence: Sequence) -> float:
    return float("-inf") if sequence.raw_logprob is None else sequence.raw_logprob


def boxed_answers(sequences: Items[Sequence]) -> list[str | None]:
    """The content of the last complete box after the reasoning, without white space."""
    return [_last_box(sequence.final_text) for sequence in sequences]


def _last_box(text: str) -> str | None:
    end = len(text)
    while (start := text.rfind(_BOX, 0, end)) >= 0:
        content = _until_closed(text[start + len(_BOX) : start + len(_BOX) + _MAX_CHARACTERS + 1])
        if content is not None:
            return "".join(content.split()) or None
        end = start
    return None


def _until_closed(text: str) -> str | None:
    """The text up to the brace that closes it; None without one."""
    depth = 1
    for position, character in enumerate(text):
        if character in "{}":
            depth += 1 if character == "{" else -1
        if depth == 0:
            return text[:position]
    return None
