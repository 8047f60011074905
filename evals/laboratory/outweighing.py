"""Outweighed samples in all orders: which ones are, and at which token each would have ended.

Whether a sample is outweighed is exact (`eager_sgl.voting.outweighing`). A run records surprisals
at τ, so that the probability of a part of a sample is found from them, and scaled to that of the
whole sample, which is known: exactly at τ = 1, and as if every step had two tokens elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl.signals import Floats
from eager_sgl.voting.votes import MAX_NATS
from evals.laboratory.draws import Draws

__all__ = ["Outweighing", "outweighing"]

Counts = NDArray[np.int64]


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

    def ends(self, num_votes: int) -> Counts:
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
