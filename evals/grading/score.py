"""The judgement on a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Score", "Status"]

Status = Literal["judged", "timed_out", "unjudged"]
"""A judge reached a judgement, ran out of time, or failed."""


@dataclass(frozen=True)
class Score:
    """The judgement on a sequence.

    Attributes:
        correct: whether the answer is right; False without a judgement.
        answer: the text that was judged; None where the sequence gives no answer.
        explanation: the reason, in a few words.
        status: "judged", or why there is no judgement.
    """

    correct: bool
    answer: str | None
    explanation: str
    status: Status = "judged"

    def __post_init__(self) -> None:
        assert self.status == "judged" or not self.correct, f"correct, but {self.status}"
