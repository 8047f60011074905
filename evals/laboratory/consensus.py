"""When a share of the weights decides a vote, for all orders at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eager_sgl import ConsensusShare
from evals.laboratory.draws import Draws
from evals.laboratory.weighing import Weights, class_totals, weights_of

__all__ = ["missing_of_share"]

Voters = Callable[[int], NDArray[np.bool_]]
"""Number of samples that have ended -> those of them that vote [R, M]."""


def missing_of_share(
    rule: ConsensusShare, draws: Draws, weights: Weights | None, voters: Voters
) -> NDArray[np.int64]:
    """Votes that are missing at least after 0 … M samples [R, M + 1], as `num_missing`.

    Weights are relative to those of others, so that all are computed again after each sample.
    """
    limit = draws.max_sequences
    missing = []
    for number in range(limit + 1):
        voting = voters(number)
        known = weights_of(draws, weights, voting)
        totals = class_totals(draws, known, voting)
        missing.append(_missing(rule, totals, voting.sum(axis=1), limit - number))
    return np.array(missing).T


def _missing(
    rule: ConsensusShare, totals: NDArray[np.float64], num_votes: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    """Further votes for the leading answer, each with the mean weight, that decide."""
    total, lead = totals.sum(axis=1), totals.max(axis=1, initial=0.0)
    mean = np.where(total > 0, total / np.maximum(num_votes, 1), 1.0)
    missing = np.full(len(totals), limit)
    for number in range(limit - 1, -1, -1):
        whole, leading = total + number * mean, lead + number * mean
        is_share = (whole > 0) & (rule.share * whole <= leading)
        missing[is_share & (num_votes + number >= rule.at_least)] = number
    return missing
