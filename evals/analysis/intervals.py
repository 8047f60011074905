"""Intervals over prompts that hold their level where nearly all prompts agree.

A plain percentile bootstrap of a paired difference knows no loss that no prompt shows. Where a
method passes nearly everywhere, the draws in which it was lucky are those whose prompts differ
least, so that it is surest where it is wrong: it calls a method better than its equal two to six
times as often as it says. So each resample has a run beside those of the run, which went the worst
way for the end of the interval that is looked for. For differences of 0 and one sign it gives the
exact binomial bounds; for others it is what Gaffke (2005) proposed for means of bounded values.
`evals/comparison/null_simulation.py` measures how often it errs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_PROMPTS", "Resamples", "mean_interval", "resamples"]

NUM_RESAMPLES = 10_000
SEED = 0
FEWEST_PROMPTS = 10
"""With fewer, no verdict is given."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resamples:
    """Weights of a Bayesian bootstrap over prompts (Rubin 1981), and of what no prompt showed.

    Attributes:
        weights: float64 [R, P], of each prompt in each resample; a row sums to 1 less the weight
            of the unseen prompt.
        unseen: float64 [R], how far one run of the unseen prompt moves a mean difference of shares
            in either direction.
    """

    weights: Array
    unseen: Array

    def interval(self, differences: Array, confidence: float) -> tuple[float, float]:
        """Of a difference between shares.

        Args:
            differences: float64 [R], `weights @` the differences by prompt, or what comes to that.
            confidence: of both sides, such as 0.95.
        """
        tail = (1 - confidence) / 2
        low = np.quantile(differences - self.unseen, tail)
        high = np.quantile(differences + self.unseen, 1 - tail)
        return float(low), float(high)


@lru_cache(maxsize=8)
def resamples(
    num_prompts: int, num_seeds: int = 1, num_resamples: int = NUM_RESAMPLES
) -> Resamples:
    """The same every time.

    Args:
        num_seeds: runs of each prompt that its values are means over.
    """
    rng = np.random.default_rng(SEED)
    weights = rng.dirichlet(np.ones(num_prompts + 1), num_resamples)
    return Resamples(weights[:, :-1], weights[:, -1] / num_seeds)


def mean_interval(
    differences: Array, num_seeds: int, confidence: float
) -> tuple[float, float] | None:
    """Interval of the mean of one difference in [-1, 1] per prompt; None for a single prompt.

    Args:
        num_seeds: as of `resamples`.
    """
    if len(differences) < 2:
        return None
    drawn = resamples(len(differences), num_seeds)
    return drawn.interval(drawn.weights @ differences, confidence)
