"""The winners of votes whose sequences have weights, for all orders at once.

Whether a sample is outweighed is exact (`eager_sgl.voting.outweighing`), and at which token it ends
where the probability of a part of it is (`Samples.path_logprobs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eager_sgl.signals import Floats
from eager_sgl.voting.votes import MAX_NATS
from eager_sgl.voting.weighing import ConfidenceKind, by_confidence
from evals.laboratory.draws import Draws
from evals.laboratory.samples import NO_VOTE

__all__ = [
    "Outweighing",
    "Weights",
    "by_probability",
    "class_totals",
    "outweighing",
    "weights_of",
    "winners",
]


@dataclass(frozen=True)
class Weights:
    """A rule of `eager_sgl.voting.weighing`.

    Attributes:
        kind: "probability", or a confidence.
        window: in steps, of "tail" and "lowest".
    """

    kind: Literal["probability"] | ConfidenceKind
    window: int = 2048


def weights_of(draws: Draws, weights: Weights | None, voters: NDArray[np.bool_]) -> Floats:
    """The weight of each vote [R, M]; 0 of a sample that does not vote.

    Args:
        weights: None counts every vote as 1.
        voters: bool [R, M], the samples that vote.
    """
    if weights is None:
        return voters.astype(float)
    if weights.kind == "probability":
        return by_probability(draws, voters)
    kind, window = weights.kind, weights.window

    def measured() -> Floats:
        return np.array(by_confidence(kind, window)(draws.samples.recorded), np.float64)

    return np.where(voters, draws.once(weights, measured)[draws.order], 0.0)


def by_probability(draws: Draws, voters: NDArray[np.bool_]) -> Floats:
    """As `by_probability`: flattened, and sequences with the same tokens once."""
    logprobs = np.where(voters, draws.samples.logprobs[draws.order], -np.inf)
    highest = logprobs.max(axis=1, initial=-np.inf, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    gamma = MAX_NATS / np.maximum(MAX_NATS, -highest)
    return np.where(draws.is_first, np.exp(gamma * (logprobs - highest)), 0.0)


def winners(draws: Draws, weights: Floats, voters: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The classes with the most votes [R], as `vote_winner`; `NO_VOTE` where none votes.

    Args:
        weights: float64 [R, M].
        voters: bool [R, M], samples with an answer.
    """
    num_rows, limit = draws.order.shape
    num_classes = len(draws.samples.is_right)
    if not num_classes:
        return np.full(num_rows, NO_VOTE)
    totals = class_totals(draws, weights, voters)
    casts = [voters & (draws.votes == number) for number in range(num_classes)]
    first = np.array([np.where(c.any(1), c.argmax(1), limit) for c in casts]).T
    leads = (totals == np.where(first < limit, totals, -1.0).max(1, keepdims=True)) & (
        first < limit
    )
    return np.where(voters.any(1), np.where(leads, first, limit).argmin(1), NO_VOTE)


def class_totals(draws: Draws, weights: Floats, voters: NDArray[np.bool_]) -> Floats:
    """Votes of each class [R, C]."""
    num_rows, num_classes = len(draws.order), len(draws.samples.is_right)
    is_cast = voters & (draws.votes >= 0)
    cells = (np.arange(num_rows)[:, None] * num_classes + draws.votes)[is_cast]
    totals = np.bincount(cells, weights[is_cast], num_rows * num_classes).astype(float)
    return np.asarray(totals.reshape(num_rows, num_classes))


@dataclass(frozen=True)
class Outweighing:
    """The samples of each order under a rule that ends outweighed ones.

    Attributes:
        is_out: bool [R, M], whether a sample is outweighed.
        lowest: float64 [R, M + 1], log-probability below which samples end, after 0 … M votes.
    """

    draws: Draws
    is_out: NDArray[np.bool_]
    lowest: Floats

    def ends(self, num_votes: int) -> NDArray[np.int64]:
        """The tokens [R, M] of samples that run after so many votes."""
        order, lowest = self.draws.order, self.lowest[:, num_votes]
        falling = [-logprobs for logprobs in self.draws.samples.path_logprobs]
        firsts = [np.searchsorted(rising, -lowest, side="right") + 1 for rising in falling]
        found = np.array(firsts)[order, np.arange(len(order))[:, None]]
        return np.asarray(np.minimum(found, self.draws.lengths))


def outweighing(draws: Draws, share: float) -> Outweighing:
    """Which samples are outweighed at a share of the strongest vote."""
    logprobs = draws.samples.logprobs[draws.order]
    highest = np.full(len(logprobs), -np.inf)
    lowest, is_out = [_lowest(highest, share)], []
    for column, votes in zip(logprobs.T, draws.votes.T, strict=True):
        is_out.append(column < lowest[-1])
        highest = np.where(votes >= 0, np.maximum(highest, column), highest)
        lowest.append(_lowest(highest, share))
    return Outweighing(draws, np.array(is_out).T, np.array(lowest).T)


def _lowest(highest: Floats, share: float) -> Floats:
    """As `lowest_logprob`."""
    return np.asarray(highest + np.log(share) * np.maximum(MAX_NATS, -highest) / MAX_NATS)
