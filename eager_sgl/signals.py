"""What a step's distribution says: pure functions of plain arrays, entropies in nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "censored_mean_peak",
    "mean_peak",
    "retemper",
    "top_k_entropy",
    "top_k_mass_bound",
]

PEAK_QUANTILE = 0.999
ROUNDING = 1e-5
"""Of a mass of float32 probabilities; what is missing of 1 by less is not there."""

Floats = NDArray[np.float64]


def retemper(logprobs: NDArray[np.floating], *, taken_at: float, wanted: float) -> Floats:
    """Probabilities over the given tokens at another temperature.

    Exact over the set: a softmax at temperature T has logprobs `z/T + const`, so the one at
    temperature W is proportional to `exp(logprob · T/W)` over any subset of its tokens.

    Args:
        logprobs: [..., K], natural logarithms, in any order; -inf stands for probability 0.
        taken_at: temperature T of the distribution they belong to (1 for raw ones).
        wanted: temperature W of the distribution asked for.

    Returns:
        float64 [..., K], summing to 1 over the last axis.
    """
    scaled = logprobs.astype(np.float64) * (taken_at / wanted)
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def top_k_mass_bound(logprobs: NDArray[np.floating], *, taken_at: float, wanted: float) -> Floats:
    """The least that the given tokens can have together of a whole distribution.

    At the temperature of the logprobs that is their sum. At a lower one, with r = T/W > 1, each of
    the tokens that are not given is at most as likely as the least likely given one, p, so that
    their weights come to at most `p^(r-1) · (1 - sum)`. At a higher one nothing can be said: they
    may be any number, however unlikely each.

    Args:
        logprobs: [..., K], natural logarithms, of the K most likely tokens.
        taken_at: temperature T of the distribution they belong to.
        wanted: temperature W of the distribution asked for; 0 leaves the most likely token.

    Returns:
        float64 [...], in [0, 1]; 1 where no more than rounding is missing.
    """
    probabilities = np.exp(logprobs.astype(np.float64))
    missing = 1 - probabilities.sum(axis=-1)
    rest = np.where(missing < ROUNDING, 0.0, missing)
    if wanted == taken_at:
        return np.asarray(1 - rest)
    if wanted > taken_at:
        return np.asarray(np.where(rest > 0, 0.0, 1.0))
    if wanted == 0:
        return np.ones_like(rest)
    ratio, most = taken_at / wanted, probabilities.max(axis=-1)
    known = ((probabilities / most[..., None]) ** ratio).sum(axis=-1)
    others = rest / most * (probabilities.min(axis=-1) / most) ** (ratio - 1)
    return np.asarray(known / (known + others))


def top_k_entropy(probabilities: Floats) -> Floats:
    """Shannon entropy `-Σ p ln p` of renormalised top-K distributions (paper, section 3).

    Args:
        probabilities: [..., K], summing to 1 over the last axis; `0 ln 0` counts as 0.

    Returns:
        float64 [...], in nats, between 0 and ln K.
    """
    logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return np.asarray(-(probabilities * logarithms).sum(axis=-1))


def mean_peak(entropies: NDArray[np.floating]) -> float | None:
    """Mean of the values at or above the 99.9th percentile of their sequence (paper, section 3).

    Args:
        entropies: [T], in nats; NaN where a step was not monitored.

    Returns:
        In nats; None if no step was monitored.
    """
    known = entropies[~np.isnan(entropies)]
    if not known.size:
        return None
    return float(known[known >= np.quantile(known, PEAK_QUANTILE)].mean())


def censored_mean_peak(entropies: NDArray[np.floating], threshold: float) -> float:
    """As `mean_peak`; steps below a threshold were not reported, and count as the threshold.

    Args:
        entropies: [T], in nats; NaN where the step was below the threshold, or not monitored.
        threshold: in nats.

    Returns:
        Mean of the largest ⌈T / 1000⌉ values, in nats, at least the threshold.
    """
    known = np.sort(entropies[~np.isnan(entropies)])[::-1]
    number = max(1, -(-len(entropies) // 1000))
    peaks = np.full(number, threshold)
    peaks[: len(known)] = known[:number]
    return float(np.maximum(peaks, threshold).mean())
