"""What exploring costs the mean sequence and the vote, and what the model's probability mends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl.search.votes import vote_weights
from evals.analysis.metrics import majority_correct, pass_rate, weighted_majority_correct
from evals.records.store import PromptRecord

__all__ = ["Votes", "votes_of"]


@dataclass(frozen=True)
class Votes:
    """Means over prompts and seeds.

    Attributes:
        pass_rate: correctness of a prompt's sequences.
        cons: whether the majority answer is correct.
        weighted_cons: the same where each sequence weighs as much as the model thinks it likely
            (`vote_weights`); None where that is not known of all.
    """

    pass_rate: float
    cons: float
    weighted_cons: float | None


def votes_of(records: Sequence[PromptRecord], k: int | None = None) -> Votes:
    """Of the first k sequences of each prompt, or of all."""
    return Votes(
        pass_rate=float(np.mean([pass_rate(r.correct[:k]) for r in records])),
        cons=float(np.mean([majority_correct(r.votes[:k], r.correct) for r in records])),
        weighted_cons=_weighted(records, k),
    )


def _weighted(records: Iterable[PromptRecord], k: int | None) -> float | None:
    votes = []
    for record in records:
        logprobs = [sequence.raw_logprob for sequence in record.sequences[:k]]
        known = [logprob for logprob in logprobs if logprob is not None]
        if len(known) < len(logprobs):
            return None
        votes.append(
            weighted_majority_correct(record.votes[:k], vote_weights(known), record.correct)
        )
    return float(np.mean(votes))
