"""The votes of answers after each sample, and when a share of them decides, for all orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl import ConsensusShare
from eager_sgl.signals import Floats
from evals.laboratory.draws import Draws
from evals.laboratory.weighing import Weights, class_totals, weights_of

__all__ = ["Tally", "leading_votes", "missing_of_share", "tallies_of"]

Voters = Callable[[int], NDArray[np.bool_]]
"""Number of samples that have ended -> those of them that vote [R, M]."""


@dataclass(frozen=True)
class Tally:
    """The votes of each order [R] after a number of samples.

    Attributes:
        total: all weights.
        lead: those of the leading answer.
        mean: of the votes; 1 without any.
        num_votes: number of the votes.
    """

    total: Floats
    lead: Floats
    mean: Floats
    num_votes: NDArray[np.int64]


def tallies_of(
    draws: Draws, weights: Weights | None, voters: Voters, weightless: NDArray[np.bool_]
) -> list[Tally]:
    """The votes after 0 … M samples.

    Weights are relative to those of others, so that all are computed again after each sample.

    Args:
        weightless: [R, M], samples whose votes count, and weigh nothing.
    """
    tallies = []
    for number in range(draws.max_sequences + 1):
        voting = voters(number)
        cast = voting & ~weightless
        totals = class_totals(draws, weights_of(draws, weights, cast), cast)
        total, num_votes = totals.sum(axis=1), voting.sum(axis=1)
        mean = np.where(total > 0, total / np.maximum(num_votes, 1), 1.0)
        tallies.append(Tally(total, totals.max(axis=1, initial=0.0), mean, num_votes))
    return tallies


def missing_of_share(rule: ConsensusShare, tallies: Sequence[Tally]) -> NDArray[np.int64]:
    """Votes that are missing at least after 0 … M samples [R, M + 1], as `num_missing`."""
    limit = len(tallies) - 1
    missing = [_missing(rule, tally, limit - number) for number, tally in enumerate(tallies)]
    return np.array(missing).T


def leading_votes(tallies: Sequence[Tally]) -> Floats:
    """Votes of the leading answer after 0 … M samples [R, M + 1], in votes of the mean weight."""
    return np.array([tally.lead / tally.mean for tally in tallies]).T


def _missing(rule: ConsensusShare, tally: Tally, limit: int) -> NDArray[np.int64]:
    """Further votes for the leading answer, each with the mean weight, that decide."""
    missing = np.full(len(tally.total), limit)
    for number in range(limit - 1, -1, -1):
        further = number * tally.mean
        whole, leading = tally.total + further, tally.lead + further
        is_share = (whole > 0) & (rule.share * whole <= leading)
        missing[is_share & (tally.num_votes + number >= rule.at_least)] = number
    return missing
