"""The votes of answers after each sample, and when a share of them decides, for all orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl import ConsensusShare
from eager_sgl.signals import Floats
from evals.laboratory.draws import Draws
from evals.laboratory.weighing import Weights, class_totals, weights_of

__all__ = ["leading_votes", "missing_of_share"]

Voters = Callable[[int], NDArray[np.bool_]]
"""Number of samples that have ended -> those of them that vote [R, M]."""


def missing_of_share(
    rule: ConsensusShare, draws: Draws, weights: Weights | None, voters: Voters
) -> NDArray[np.int64]:
    """Votes that are missing at least after 0 … M samples [R, M + 1], as `num_missing`.

    Weights are relative to those of others, so that all are computed again after each sample.
    """
    limit = draws.max_sequences
    tallies = _tallies(draws, weights, voters)
    missing = [_missing(rule, tally, limit - number) for number, tally in enumerate(tallies)]
    return np.array(missing).T


def leading_votes(draws: Draws, weights: Weights | None, voters: Voters) -> Floats:
    """Votes of the leading answer after 0 … M samples [R, M + 1], in votes of the mean weight."""
    return np.array([tally.lead / tally.mean for tally in _tallies(draws, weights, voters)]).T


@dataclass(frozen=True)
class _Tally:
    """The votes of each order [R]: all weights, those of the leading answer, the mean one."""

    total: Floats
    lead: Floats
    mean: Floats
    num_votes: NDArray[np.int64]


def _tallies(draws: Draws, weights: Weights | None, voters: Voters) -> Iterator[_Tally]:
    """After 0 … M samples."""
    for number in range(draws.max_sequences + 1):
        voting = voters(number)
        totals = class_totals(draws, weights_of(draws, weights, voting), voting)
        total, num_votes = totals.sum(axis=1), voting.sum(axis=1)
        mean = np.where(total > 0, total / np.maximum(num_votes, 1), 1.0)
        yield _Tally(total, totals.max(axis=1, initial=0.0), mean, num_votes)


def _missing(rule: ConsensusShare, tally: _Tally, limit: int) -> NDArray[np.int64]:
    """Further votes for the leading answer, each with the mean weight, that decide."""
    missing = np.full(len(tally.total), limit)
    for number in range(limit - 1, -1, -1):
        further = number * tally.mean
        whole, leading = tally.total + further, tally.lead + further
        is_share = (whole > 0) & (rule.share * whole <= leading)
        missing[is_share & (tally.num_votes + number >= rule.at_least)] = number
    return missing
