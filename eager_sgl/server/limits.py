"""What a request may ask for: `RequestLimits`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eager_sgl.voting.answers import AnswerReader

__all__ = ["RequestLimits"]


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """What a request may ask for, and what it gets where it does not ask.

    Attributes:
        max_sequences: the most sequences of a request, those of all its prompts.
        default_sequences: M of a method that is named without a number.
        threshold: θ of eager_init in nats; None: every request gives it.
        consensus: probability above which a vote is decided.
        top_k: K, the most likely tokens of a step that a tree knows.
        reasoning_end: the text that closes the reasoning, after which no method branches.
        readers: of answers, by further names of `eager.answer`.
    """

    max_sequences: int = 128
    default_sequences: int = 8
    threshold: float | None = None
    consensus: float = 0.95
    top_k: int = 20
    reasoning_end: str = "</think>"
    readers: Mapping[str, AnswerReader] = field(default_factory=dict)
