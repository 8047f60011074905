"""The cost of exploring for the mean sequence and the vote, and the gain of weighted votes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from eager_sgl.voting import vote_weights
from evals.analysis.groups import group_by
from evals.analysis.metrics import majority_correct, pass_rate
from evals.records.plan import PARALLEL
from evals.records.record import PromptRecord

__all__ = ["MethodVotes", "Votes", "votes_of", "votes_of_methods"]


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Means over prompts and seeds.

    Attributes:
        pass_rate: correctness of a prompt's sequences.
        cons: whether the majority answer is correct; under `vote` by the weights of its votes, of
            which sequences that were cut have none.
        weighted_cons: the same where the model's probability weighs a vote (`vote_weights`); None
            where it is not known of all sequences that vote.
    """

    pass_rate: float
    cons: float
    weighted_cons: float | None


@dataclass(frozen=True, kw_only=True)
class MethodVotes(Votes):
    """The votes of a method at one M, θ and τ; θ is "auto" where it is adaptive."""

    method: str
    temperature: float
    theta: str | None
    max_sequences: int


def votes_of_methods(
    records: Sequence[PromptRecord], max_sequences: int | None
) -> Iterator[MethodVotes]:
    """The votes of all methods.

    Args:
        max_sequences: the most sequences that count of Full Parallel; None for all.
    """
    for cell, group in group_by(records, lambda record: record.cell.without_seed).items():
        k = max_sequences if cell.method == PARALLEL else None
        yield MethodVotes(
            method=cell.name,
            temperature=cell.temperature,
            theta=cell.theta or None,
            max_sequences=min(cell.max_sequences, k or cell.max_sequences),
            **asdict(votes_of(group, k)),
        )


def votes_of(records: Sequence[PromptRecord], k: int | None = None) -> Votes:
    """Of the first k sequences of each prompt, or of all."""
    return Votes(
        pass_rate=float(np.mean([pass_rate(r.correct[:k]) for r in records])),
        cons=float(
            np.mean([majority_correct(r.votes[:k], r.correct, r.weights[:k]) for r in records])
        ),
        weighted_cons=_weighted(records, k),
    )


def _weighted(records: Iterable[PromptRecord], k: int | None) -> float | None:
    judged = []
    for record in records:
        weights = zip(record.sequences[:k], record.weights[:k], strict=True)
        voters = [sequence for sequence, weight in weights if weight]
        known = [s.raw_logprob for s in voters if s.raw_logprob is not None]
        if len(known) < len(voters):
            return None
        votes = [sequence.vote for sequence in voters]
        weighted = vote_weights(known) if known else []
        judged.append(majority_correct(votes, record.correct, weighted))
    return float(np.mean(judged))
