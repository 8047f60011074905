"""Full Parallel at the tokens that another method generated, and how sure the difference is.

All arrays go by prompt. Where there are several seeds, all of them are means over the seeds of a
prompt, so that a prompt is one observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evals.analysis.intervals import FEWEST_PROMPTS, Resamples, resamples
from evals.analysis.metrics import Estimate, equivalent_parallel_k, estimate

__all__ = ["CONFIDENCE", "MatchedParallel", "match_parallel", "matched_interval"]

CONFIDENCE = 0.95

Array = NDArray[np.float64]
Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class MatchedParallel:
    """Full Parallel at equal tokens.

    Attributes:
        k: sequences per prompt that it samples with the other method's tokens.
        pass_at_k: its unbiased estimate; None where k exceeds the sequences it was run with.
        difference: the other method's value minus it, mean over prompts; None with it.
        interval: 95 % paired bootstrap interval of the difference over prompts, with an unseen
            run (`evals.analysis.intervals`); None with it and for a single prompt.
    """

    k: float
    num_prompts: int
    pass_at_k: Estimate | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the interval says of the other method; None without a difference.

        Under 10 prompts nothing is decided.
        """
        if self.difference is None:
            return None
        if self.interval is None or self.num_prompts < FEWEST_PROMPTS:
            return "undecided"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "undecided"


def match_parallel(
    values: Array, tokens: Array, curves: Array, parallel_tokens: Array, num_seeds: int = 1
) -> MatchedParallel:
    """Compare a method with Full Parallel at the same tokens, added up over the prompts.

    All prompts get the same k, and one sequence at least: a method whose only sequence happens to
    be short has not saved a part of one. A resample of the bootstrap weighs prompts with everything
    they have, and takes its k anew, since the tokens hang on the draw as the values do.

    Args:
        values: float [P], what the method reached.
        tokens: float [P], what it generated.
        curves: float [P, n + 1], unbiased pass@0 … pass@n of Full Parallel.
        parallel_tokens: float [P], what its n sequences generated.
        num_seeds: runs of each prompt that all of these are means over.
    """
    num_sequences = curves.shape[1] - 1
    k = equivalent_parallel_k(tokens.sum(), parallel_tokens.sum(), num_sequences)
    if k > num_sequences:
        return MatchedParallel(k, len(values))
    parallel = _at(np.eye(len(values)), curves, np.full(len(values), k))
    drawn = resamples(len(values), num_seeds)
    return MatchedParallel(
        k=k,
        num_prompts=len(values),
        pass_at_k=estimate(parallel.tolist()),
        difference=float(np.mean(values - parallel)),
        interval=matched_interval(drawn, values, tokens, curves, parallel_tokens)
        if len(values) > 1
        else None,
    )


def matched_interval(
    drawn: Resamples, values: Array, tokens: Array, curves: Array, parallel_tokens: Array
) -> tuple[float, float]:
    """95 % interval of the difference that `match_parallel` finds, from its arguments."""
    ks = (drawn.weights @ tokens) / (drawn.weights @ parallel_tokens) * (curves.shape[1] - 1)
    differences = drawn.weights @ values - _at(drawn.weights, curves, ks)
    return drawn.interval(differences, CONFIDENCE)


def _at(weights: Array, curves: Array, ks: Array) -> Array:
    """Mean of the curves [P, n + 1] under row r of weights [R, P] at ks[r], linear between whole k.

    Less than 1 counts as 1. Beyond n the last step goes on: pass@k is concave in k, so this never
    favours what is compared with it. Only resamples get there.
    """
    ks = np.maximum(ks, 1)
    below = np.minimum(np.floor(ks).astype(int), curves.shape[1] - 2)
    first = below.min()
    means = weights @ curves[:, first : below.max() + 2]
    rows = np.arange(len(ks))
    low, high = means[rows, below - first], means[rows, below - first + 1]
    found: Array = low + (ks - below) * (high - low)
    return found
