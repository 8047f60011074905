"""Intervals over prompts that hold their level where nearly all prompts agree.

A plain percentile bootstrap of a paired difference has no loss that no prompt shows. Where a
method passes nearly everywhere, its lucky draws are those whose prompts differ least, so that the
bootstrap is surest where it is wrong: it calls a method better than its equal two to six times as
often as its level permits. So each resample has one more, unseen run, with the worst result for the
end of the interval in question. For differences of 0 and one sign this gives the exact binomial
bounds; for others it is the interval of Gaffke (2005) for means of bounded values.
`evals/comparison/null_simulation.py` measures its errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eager_sgl.signals import Floats

__all__ = ["MIN_PROMPTS", "Resamples", "mean_interval", "resamples"]

NUM_RESAMPLES = 10_000
SEED = 0
MIN_PROMPTS = 10
"""With fewer, no verdict is given."""


@dataclass(frozen=True)
class Resamples:
    """Weights of a Bayesian bootstrap over prompts (Rubin 1981) and of an unseen prompt.

    Attributes:
        weights: float64 [R, P], of each prompt in each resample; a row sums to 1 less the weight
            of the unseen prompt.
        unseen: float64 [R], how far one run of the unseen prompt moves a mean difference of shares
            in either direction.
    """

    weights: Floats
    unseen: Floats

    def interval(self, differences: Floats, confidence: float) -> tuple[float, float]:
        """Interval of a difference between shares.

        Args:
            differences: float64 [R], the difference in each resample, such as `weights @` the
                differences by prompt.
            confidence: two-sided, such as 0.95.
        """
        tail = (1 - confidence) / 2
        low = np.quantile(differences - self.unseen, tail)
        high = np.quantile(differences + self.unseen, 1 - tail)
        return float(low), float(high)

    def share_interval(self, shares: Floats, confidence: float) -> tuple[float, float]:
        """Interval of the mean of shares: the unseen prompt has 0 at the lower end, 1 at the upper.

        Args:
            shares: float64 [P], in [0, 1], by prompt.
            confidence: two-sided.
        """
        tail = (1 - confidence) / 2
        means = self.weights @ shares
        low = np.quantile(means, tail)
        high = np.quantile(means + 1 - self.weights.sum(axis=1), 1 - tail)
        return float(low), min(float(high), 1.0)

    def ratio_interval(
        self,
        numerators: Floats,
        denominators: Floats,
        confidence: float,
        scale: Floats | float = 1.0,
    ) -> tuple[float, float]:
        """Interval of a ratio of sums over prompts, as of tokens.

        Args:
            numerators, denominators: float64 [P], by prompt.
            confidence: two-sided.
            scale: float64 [R], which multiplies the ratio in each resample.
        """
        tail = (1 - confidence) / 2
        ratios = (self.weights @ numerators) / (self.weights @ denominators)
        low, high = np.quantile(ratios * scale, [tail, 1 - tail])
        return float(low), float(high)


@lru_cache(maxsize=8)
def resamples(
    num_prompts: int, num_seeds: int = 1, num_resamples: int = NUM_RESAMPLES
) -> Resamples:
    """Resamples from a fixed seed.

    Args:
        num_seeds: runs of each prompt that its values are means over.
    """
    rng = np.random.default_rng(SEED)
    weights = rng.dirichlet(np.ones(num_prompts + 1), num_resamples)
    return Resamples(weights[:, :-1], weights[:, -1] / num_seeds)


def mean_interval(
    differences: Floats, num_seeds: int, confidence: float
) -> tuple[float, float] | None:
    """Interval of the mean of one difference in [-1, 1] per prompt; None for a single prompt.

    Args:
        num_seeds: as of `resamples`.
    """
    if len(differences) < 2:
        return None
    drawn = resamples(len(differences), num_seeds)
    return drawn.interval(drawn.weights @ differences, confidence)
