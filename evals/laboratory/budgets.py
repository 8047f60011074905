"""Prompts that share tokens by the uncertainty of their votes, as under a `TokenLedger`.

A prompt's rounds do not depend on those of others; the budget decides how many it gets. The best
bid is granted as long as it fits; a bid is worth no more than those before it, which had to be
granted first. So every prompt is where its bid first fell below one price, the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl.search import round_sizes
from eager_sgl.signals import Floats
from evals.laboratory.costs import unique_tokens
from evals.laboratory.draws import Draws
from evals.laboratory.play import cuts_of, missing_of, right, winners_after
from evals.laboratory.rules import Rule, SharedBudget
from evals.laboratory.weighing import by_probability, class_totals

__all__ = ["Rounds", "last_rounds", "rounds_of", "uncertainties"]

Counts = NDArray[np.int64]
TOKENS_OF_PRICE = 1000


@dataclass(frozen=True)
class Rounds:
    """A prompt after each of its S rounds, in each of R orders.

    Attributes:
        sizes: int [S], samples; the first round has one.
        tokens: int64 [R, S], that they cost.
        is_right: bool [R, S], whether the winner of their votes is.
        bids: float64 [R, S], for the next round, never rising; −∞ where none is wanted.
    """

    sizes: Counts
    tokens: Counts
    is_right: NDArray[np.bool_]
    bids: Floats


def rounds_of(rule: Rule, draws: Draws, floor: float | None = None) -> Rounds:
    """The rounds of a prompt under a rule with a budget."""
    assert rule.budget is not None, f"{rule.text} has no budget"
    cuts = cuts_of(rule, draws, floor)
    sizes = np.array(round_sizes(draws.max_sequences, rule.budget.width))
    tokens = unique_tokens(draws, cuts.lengths) if rule.shares else cuts.lengths
    costs = tokens.cumsum(axis=1)[:, sizes - 1]
    is_open = np.logical_and.accumulate(missing_of(rule, draws, cuts)[:, sizes] > 0, axis=1)
    is_right, bids = [], []
    for number, size in enumerate(sizes.tolist()):
        num_votes = np.full(len(draws.order), size)
        is_right.append(right(draws, winners_after(rule, draws, cuts, num_votes)))
        counted = np.arange(draws.max_sequences) < size
        voters = counted & ~(cuts.is_below & (size >= cuts.num_warmups))
        value = uncertainties(draws, voters) / size
        if rule.budget.price is not None:
            value = value * TOKENS_OF_PRICE * size / costs[:, number]
        bids.append(np.where(is_open[:, number], value, -np.inf))
    falling = np.minimum.accumulate(np.array(bids).T, axis=1)
    return Rounds(sizes, costs, np.array(is_right).T, falling)


def uncertainties(draws: Draws, voters: NDArray[np.bool_]) -> Floats:
    """`vote_uncertainty` of the samples that vote, in each order [R]."""
    weights = voters.astype(float)
    if not np.isnan(draws.samples.logprobs).any():
        weights = by_probability(draws, voters)
    alone = np.where(voters & (draws.votes < 0), weights, 0.0).max(axis=1)
    highest = np.maximum(alone, class_totals(draws, weights, voters).max(axis=1, initial=0.0))
    total = weights.sum(axis=1)
    share = np.divide(highest, total, out=np.ones_like(total), where=total > 0)
    return np.asarray(1 - share + 1 / (voters.sum(axis=1) + 1))


def last_rounds(budget: SharedBudget, courses: Sequence[Rounds], parallel_tokens: float) -> Counts:
    """The last round of each prompt in each resample [P, R].

    Args:
        parallel_tokens: of Full Parallel with M sequences, over all prompts.
    """
    bids = np.array([course.bids[:, :-1] for course in courses])
    if budget.price is not None:
        return np.asarray((bids >= budget.price).sum(axis=2))
    assert budget.tokens is not None, "a budget has tokens or a price"
    tokens = np.array([course.tokens for course in courses])
    num_prompts, num_resamples, num_rounds = bids.shape
    flat, costs = (
        values.transpose(0, 2, 1).reshape(num_prompts * num_rounds, num_resamples)
        for values in (bids, np.diff(tokens, axis=2))
    )
    order = np.argsort(-flat, axis=0, kind="stable")  # of equal bids, a prompt's earlier round
    spent = tokens[:, :, 0].sum(axis=0) + np.take_along_axis(costs, order, axis=0).cumsum(axis=0)
    fits = (spent <= budget.tokens * parallel_tokens) & np.isfinite(
        np.take_along_axis(flat, order, axis=0)
    )
    granted = np.zeros_like(fits)
    np.put_along_axis(granted, order, fits, axis=0)
    return np.asarray(granted.reshape(num_prompts, num_rounds, num_resamples).sum(axis=1))
