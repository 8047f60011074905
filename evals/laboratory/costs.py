"""What samples cost: when they start and end, and which of their tokens others have.

Steps stand for time: all samples that run decode a token in each. Samples that run when a vote is
decided are aborted there, so what they cost depends on how fast others ran: it is exact where all
run at one pace. Without samples ahead none is aborted, but by rules of weights, which may decide
sooner than the number of missing votes says. A cut sample is replaced here when it is counted, and
in a live vote at once, so that the steps of rules that cut are upper bounds. An outweighed sample
ends here at the token, and in a live vote with the part of its answer that has arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.laboratory.draws import Draws

__all__ = ["Timed", "timed", "unique_tokens"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Timed:
    """The samples of each order until the vote is decided.

    Attributes:
        num_votes: int64 [R], samples that have ended in time, in the order of starts.
        tokens: int64 [R, M], of each sample; 0 of those that have not started.
        steps: int64 [R], until the last counted sample has ended.
    """

    num_votes: Counts
    tokens: Counts
    steps: Counts


def timed(
    missing: Counts,
    lengths: Counts,
    *,
    to_start: Counts | None = None,
    num_warmups: int = 0,
    ends: Callable[[int], Counts] | None = None,
) -> Timed:
    """Start samples until no vote is missing.

    Args:
        missing: [R, M + 1], of `starting.missing_votes`.
        to_start: [R, M + 1], further samples that run; None for as many as are missing.
        lengths: [R, M], tokens of each sample if it is not aborted.
        num_warmups: first samples, after which the others start.
        ends: number of votes -> tokens [R, M] at which samples that run then end; None for none.
    """
    num_orders, limit = lengths.shape
    num_votes, index = (missing == 0).argmax(axis=1), np.arange(limit)
    allowed = np.minimum(np.arange(limit + 1) + (missing if to_start is None else to_start), limit)
    allowed[:, :num_warmups] = np.minimum(allowed[:, :num_warmups], num_warmups)
    starts, started = np.zeros_like(lengths), np.zeros((num_orders, limit + 1), int)
    times = np.zeros((num_orders, limit + 1), int)
    for votes in range(limit):
        before, now = started[:, votes - 1], times[:, votes]  # at first none has started
        if ends is not None:
            decoded = np.where(index < before[:, None], now[:, None] - starts, 0)
            lengths = _shorter(lengths, np.maximum(ends(votes), decoded), votes)
        # Votes that can be counted at once are counted before any sample starts.
        waits = (before <= votes) | (starts[:, votes] + lengths[:, votes] > now)
        started[:, votes] = np.where(waits, np.maximum(before, allowed[:, votes]), before)
        is_new = (index >= before[:, None]) & (index < started[:, [votes]])
        starts = np.where(is_new, now[:, None], starts)
        times[:, votes + 1] = np.maximum(now, starts[:, votes] + lengths[:, votes])
    rows = np.arange(num_orders)
    steps = times[rows, num_votes]
    has_started = index < started[rows, np.maximum(num_votes - 1, 0)][:, None]
    until = np.clip(steps[:, None] - starts, 0, lengths)
    tokens = np.where(index < num_votes[:, None], lengths, until * has_started)
    return Timed(num_votes, tokens, steps)


def _shorter(lengths: Counts, ends: Counts, votes: int) -> Counts:
    """The lengths of samples of which those that have not been counted end early."""
    is_counted = np.arange(lengths.shape[1]) < votes
    return np.where(is_counted, lengths, np.minimum(lengths, ends))


def unique_tokens(draws: Draws, tokens: Counts) -> Counts:
    """Tokens of each sample that no earlier one has [R, M]: `TokenCounts.unique` when added up.

    The server decodes fewer: a token at which a sample leaves the tree is drawn by the client.

    Args:
        tokens: [R, M], of each sample, as far as it was decoded.
    """
    unique = tokens.copy()
    for index in range(1, draws.max_sequences):
        rows = np.flatnonzero(tokens[:, index])
        earlier = draws.order[rows, :index]
        common = draws.samples.common[draws.order[rows, index][:, None], earlier]
        shared = np.minimum(common, tokens[rows, :index]).max(axis=1, initial=0)
        unique[rows, index] -= np.minimum(shared, tokens[rows, index])
    return unique
