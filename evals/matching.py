"""Full Parallel at the tokens that another method generated, and how sure the difference is.

All arrays go by prompt. Where there are several seeds, all of them are means over the seeds of a
prompt, so that a prompt is one observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evals.metrics import Estimate, equivalent_parallel_k, estimate

__all__ = [
    "FEWEST_PROMPTS",
    "NUM_RESAMPLES",
    "MatchedParallel",
    "bootstrap_interval",
    "match_parallel",
    "resamples",
]

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
SEED = 0
FEWEST_PROMPTS = 10

Array = NDArray[np.float64]
Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class MatchedParallel:
    """Full Parallel at equal tokens.

    Attributes:
        k: sequences per prompt that it samples with the other method's tokens.
        pass_at_k: its unbiased estimate; None where k exceeds the sequences it was run with.
        difference: the other method's value minus it, mean over prompts; None with it.
        interval: 95 % paired bootstrap interval of the difference over prompts; None with it and
            for a single prompt.
    """

    k: float
    num_prompts: int
    pass_at_k: Estimate | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the interval says of the other method; None without a difference.

        Under 10 prompts nothing is decided: there a bootstrap is too sure of itself.
        """
        if self.difference is None:
            return None
        if self.interval is None or self.num_prompts < FEWEST_PROMPTS:
            return "undecided"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "undecided"


def match_parallel(
    values: Array, tokens: Array, curves: Array, parallel_tokens: Array
) -> MatchedParallel:
    """Compare a method with Full Parallel at the same tokens, added up over the prompts.

    All prompts get the same k. A resample of the bootstrap draws prompts with everything they
    have, and takes its k anew, since the tokens hang on the draw as the values do.

    Args:
        values: float [P], what the method reached.
        tokens: float [P], what it generated.
        curves: float [P, n + 1], unbiased pass@0 … pass@n of Full Parallel.
        parallel_tokens: float [P], what its n sequences generated.
    """
    num_sequences = curves.shape[1] - 1
    k = equivalent_parallel_k(tokens.sum(), parallel_tokens.sum(), num_sequences)
    if k > num_sequences:
        return MatchedParallel(k, len(values))
    parallel = _at(curves, np.full(len(values), k))
    return MatchedParallel(
        k=k,
        num_prompts=len(values),
        pass_at_k=estimate(parallel.tolist()),
        difference=float(np.mean(values - parallel)),
        interval=_interval(values, tokens, curves, parallel_tokens) if len(values) > 1 else None,
    )


def _interval(
    values: Array, tokens: Array, curves: Array, parallel_tokens: Array
) -> tuple[float, float]:
    weights = resamples(len(values))
    ks = (weights @ tokens) / (weights @ parallel_tokens) * (curves.shape[1] - 1)
    differences = weights @ values - _at(weights @ curves, ks)
    low, high = np.quantile(differences, [TAIL, 1 - TAIL])
    # Where a method passes every prompt, or none, its draws vary in no resample, though its chance
    # may well be below 1: the exact binomial bound on it stands in for that.
    low -= _unseen(len(values)) if values.min() == 1 else 0
    high += _unseen(len(values)) if values.max() == 0 else 0
    return float(low), float(high)


def bootstrap_interval(values: Array) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean of one difference per prompt; None for a single prompt.

    Where all differences are to one side, resamples never show the other: the exact binomial bound
    on what was not seen in so many prompts stands in for that.
    """
    if len(values) < 2:
        return None
    low, high = np.quantile(resamples(len(values)) @ values, [TAIL, 1 - TAIL])
    low -= _unseen(len(values)) if values.min() >= 0 else 0
    high += _unseen(len(values)) if values.max() <= 0 else 0
    return float(low), float(high)


def _unseen(num_prompts: int) -> float:
    """The highest chance of something that may well not be seen in any of so many prompts."""
    return float(1 - TAIL ** (1 / num_prompts))


@lru_cache(maxsize=8)
def resamples(num_prompts: int) -> Array:
    """Weight of each prompt in each resample: float [R, P], rows summing to 1; always the same."""
    rng = np.random.default_rng(SEED)
    draws = rng.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), NUM_RESAMPLES)
    return draws / num_prompts


def _at(curves: Array, ks: Array) -> Array:
    """Row i of the curves [R, n + 1] at k = ks[i], linear between whole k.

    Beyond n the last step goes on: pass@k is concave in k, so this never favours what is compared
    with it. Only resamples get there.
    """
    below = np.clip(np.floor(ks).astype(int), 0, curves.shape[1] - 2)
    rows = np.arange(len(ks))
    low, high = curves[rows, below], curves[rows, below + 1]
    found: Array = low + (ks - below) * (high - low)
    return found
