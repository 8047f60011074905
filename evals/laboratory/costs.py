"""What samples cost: when they start and end, and which of their tokens others have.

Steps stand for time: all samples that run decode a token in each. Samples that run when a vote is
decided are aborted there, so what they cost depends on how fast others ran: it is exact where all
run at one pace. Without samples ahead none is aborted, but by rules of weights, which may decide
sooner than the number of missing votes says. A cut sample is replaced here when it is counted, and
in a live vote at once, so that the steps of rules that cut are upper bounds.
"""

from __future__ import annotations

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


def timed(missing: Counts, lengths: Counts, *, ahead: int = 0, num_warmups: int = 0) -> Timed:
    """Start as many samples as may decide, and `ahead` more, until nothing is missing.

    Args:
        missing: [R, M + 1], of `starting.missing_votes`.
        lengths: [R, M], tokens of each sample if it is not aborted.
        num_warmups: first samples, after which the others start.
    """
    limit = lengths.shape[1]
    num_votes = (missing == 0).argmax(axis=1)
    allowed = np.minimum(np.arange(limit + 1) + missing + ahead, limit)
    allowed[:, :num_warmups] = np.minimum(allowed[:, :num_warmups], num_warmups)
    allowed = np.maximum.accumulate(allowed, axis=1)
    index, rows, width = np.arange(limit), np.arange(len(lengths)), limit + 1
    # A sample starts when so many votes are counted that it is allowed.
    cells = np.bincount((rows[:, None] * width + allowed).ravel(), minlength=len(rows) * width)
    after = cells.reshape(len(rows), width).cumsum(axis=1)
    starts, ends = np.zeros_like(lengths), np.zeros((len(rows), width), int)
    for sample in range(limit):
        starts[:, sample] = ends[rows, np.minimum(after[:, sample], sample)]
        over = starts[:, sample] + lengths[:, sample]
        ends[:, sample + 1] = np.maximum(ends[:, sample], over)
    steps = ends[rows, num_votes]
    has_started = index < allowed[rows, np.maximum(num_votes - 1, 0)][:, None]
    until = np.clip(steps[:, None] - starts, 0, lengths)
    tokens = np.where(index < num_votes[:, None], lengths, until * has_started)
    return Timed(num_votes, tokens, steps)


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
