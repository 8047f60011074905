"""Signals of a step's distribution: pure functions of plain arrays, entropies in nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "censored_mean_peak",
    "mean_peak",
    "reshape_logprobs",
    "retemper",
    "top_k_entropy",
    "top_k_mass_bound",
    "top_k_varentropy",
    "uniform_kl",
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


def reshape_logprobs(logprobs: NDArray[np.floating], *, temperature: float, min_p: float) -> Floats:
    """Log-probabilities over the given tokens after a min-p cut and a temperature.

    Min-p removes the tokens whose probability is below `min_p` times the highest one. Samplers cut
    after tempering; here the cut comes first, so that it equals theirs at `min_p^(1/temperature)`.

    Args:
        logprobs: [n, K], natural logarithms, most likely token first; -inf for probability 0.
        temperature: relative to the distribution that the logprobs belong to.
        min_p: in [0, 1]; 0 removes nothing.

    Returns:
        float64 [n, K], normalised over the last axis; -inf where a token was removed.
    """
    scaled = logprobs.astype(np.float64) / temperature
    if min_p:
        floor = logprobs[:, :1] + np.log(min_p)
        scaled = np.where(logprobs >= floor, scaled, -np.inf)
    highest = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - highest).sum(axis=1, keepdims=True)) + highest
    return np.asarray(scaled - total)


def top_k_mass_bound(logprobs: NDArray[np.floating], *, taken_at: float, wanted: float) -> Floats:
    """Lower bound of the joint probability of the K most likely tokens at another temperature.

    At the temperature of the logprobs it is their sum. At a lower temperature, with r = T/W > 1,
    each of the other tokens is at most as likely as the K-th, p, so that their weights sum to at
    most `p^(r-1) · (1 - sum)`. At a higher temperature there is no bound but 0: the other tokens
    may be any number, however unlikely each is.

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
    ratio, highest = taken_at / wanted, probabilities.max(axis=-1)
    known = ((probabilities / highest[..., None]) ** ratio).sum(axis=-1)
    others = rest / highest * (probabilities.min(axis=-1) / highest) ** (ratio - 1)
    return np.asarray(known / (known + others))


def top_k_entropy(probabilities: Floats) -> Floats:
    """Shannon entropy `-Σ p ln p` of renormalised top-K distributions (paper, section 3).

    Args:
        probabilities: [..., K], summing to 1 over the last axis; `0 ln 0` counts as 0.

    Returns:
        float64 [...], in nats, between 0 and ln K.
    """
    return np.asarray(-(probabilities * _logarithms(probabilities)).sum(axis=-1))


def top_k_varentropy(probabilities: Floats) -> Floats:
    """Variance of the surprisal `-ln p` of renormalised top-K distributions.

    Args:
        probabilities: [..., K], summing to 1 over the last axis.

    Returns:
        float64 [...], in nats², at least 0.
    """
    squares = (probabilities * _logarithms(probabilities) ** 2).sum(axis=-1)
    return np.asarray(np.maximum(squares - top_k_entropy(probabilities) ** 2, 0.0))


def uniform_kl(probabilities: Floats) -> Floats:
    """KL(uniform ‖ p) of renormalised top-K distributions: self-certainty, low where unsure.

    Args:
        probabilities: [..., K], summing to 1 over the last axis; 0 counts as the smallest float.

    Returns:
        float64 [...], in nats.
    """
    logarithms = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return np.asarray(-logarithms.mean(axis=-1) - np.log(probabilities.shape[-1]))


def _logarithms(probabilities: Floats) -> Floats:
    """Natural logarithms; 0 where the probability is 0, since `0 ln 0` counts as 0."""
    zeros = np.zeros_like(probabilities)
    return np.asarray(np.log(probabilities, out=zeros, where=probabilities > 0))


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
