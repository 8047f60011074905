"""The metrics of a run: pure functions of plain numbers, of one prompt or over prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl.signals import Floats
from eager_sgl.voting import vote_totals, vote_winner

__all__ = [
    "Correlation",
    "Estimate",
    "coverage",
    "equivalent_parallel_k",
    "estimate",
    "majority_at_k",
    "majority_correct",
    "pass_at_k",
    "pass_curve",
    "pass_rate",
    "rank_correlation",
]

NUM_SUBSETS = 4096


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts (or over seeds, where a name says so).

    Attributes:
        value: the mean.
        stderr: sample standard deviation over √n; NaN for one prompt.
    """

    value: float
    stderr: float


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over `count` prompts.

    Attributes:
        spearman: in [-1, 1]; None where it is undefined: under 3 prompts, or all values equal.
        p_value: two-sided, under no correlation; None where `spearman` is.
    """

    spearman: float | None
    p_value: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error of one value per prompt."""
    if not values:
        raise ValueError("values is empty; a mean needs at least one prompt")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, math.sqrt(variance / count))


def coverage(correct: Sequence[bool]) -> float:
    """1 if any of a prompt's realised sequences is correct, else 0: Pass@M.

    The paper reports it. For a tree it does not determine Pass@k for other k: sequences are neither
    independent nor equally many for all prompts.
    """
    return float(any(correct))


def pass_rate(correct: Sequence[bool]) -> float:
    """Mean correctness of a prompt's sequences."""
    return sum(correct) / len(correct)


def pass_at_k(num_sequences: int, num_correct: int, k: float) -> float:
    """Unbiased chance that k of n independent sequences hold a correct one (Chen et al. 2021).

    `1 - C(n - c, k) / C(n, k)` for whole k. Between whole k it is interpolated linearly: the
    chance when the next k is drawn with a probability equal to the fraction; pass@0 is 0.

    Args:
        num_sequences: n, all drawn independently.
        num_correct: c of them are correct.
        k: in [0, n].
    """
    if not 0 <= num_correct <= num_sequences:
        raise ValueError(f"num_correct is {num_correct}; it must be in [0, {num_sequences}]")
    if not 0 <= k <= num_sequences:
        raise ValueError(f"k is {k}; it must be in [0, {num_sequences}]")
    below = math.floor(k)
    fraction = k - below
    value = _pass_at_whole_k(num_sequences, num_correct, below)
    if fraction == 0:
        return value
    return value + fraction * (_pass_at_whole_k(num_sequences, num_correct, below + 1) - value)


def _pass_at_whole_k(num_sequences: int, num_correct: int, k: int) -> float:
    return 1 - math.comb(num_sequences - num_correct, k) / math.comb(num_sequences, k)


def pass_curve(correct: Sequence[bool]) -> Floats:
    """Unbiased pass@0 … pass@n of a prompt's n independent sequences: float64 [n + 1]."""
    num_sequences, num_correct = len(correct), sum(correct)
    ks = range(num_sequences + 1)
    return np.array([_pass_at_whole_k(num_sequences, num_correct, k) for k in ks])


def equivalent_parallel_k(tokens: int, parallel_tokens: int, max_sequences: int) -> float:
    """Sequences per prompt that Full Parallel samples with as many generated tokens.

    `tokens / (parallel_tokens / M)`, both totals over the same prompts.
    """
    return tokens * max_sequences / parallel_tokens


def majority_correct(
    classes: Sequence[int | None],
    correct: Sequence[bool],
    weights: Sequence[float] | None = None,
) -> bool:
    """Whether the class with the most votes is correct: Cons@M of one prompt.

    Ties are those of `vote_winner`. No vote at all is wrong.

    Args:
        classes: one per sequence, from `vote_classes`.
        correct: one per sequence.
        weights: of the votes, for example the sequences' probabilities under the model; a sequence
            of weight 0 does not vote. None counts each as 1.
    """
    if weights is not None:
        votes = zip(classes, weights, strict=True)
        classes = [index if weight else None for index, weight in votes]
    winner = vote_winner(classes, weights)
    return winner is not None and correct[winner]


def majority_at_k(
    classes: Sequence[int | None], correct: Sequence[bool], k: int, seed: int = 0
) -> float:
    """Chance that the majority of k of a prompt's independent sequences is correct: Cons@k.

    The mean over 4096 random subsets, drawn without replacement from a fixed seed. In a subset's
    random order each leading class of a tie is equally likely to occur first, so that a tie counts
    as the share of its classes that are correct. No vote at all is wrong.

    Args:
        classes: one per sequence, from `vote_classes`.
        correct: one per sequence.
        k: in [1, n].
    """
    if not 1 <= k <= len(classes):
        raise ValueError(f"k is {k}; it must be in [1, {len(classes)}]")
    sizes = vote_totals(classes)
    right = np.array([correct[index] for index in sizes], dtype=float)
    num_silent = sum(index is None for index in classes)
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        [*map(int, sizes.values()), num_silent], k, size=NUM_SUBSETS
    )
    votes = drawn[:, :-1]
    if votes.shape[1] == 0:
        return 0.0
    highest = votes.max(axis=1, keepdims=True)
    leads = (votes == highest) & (highest > 0)
    shares = (leads * right).sum(axis=1) / np.maximum(leads.sum(axis=1), 1)
    return float(shares.mean())


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> Correlation:
    """Spearman's ρ of two values per prompt, with its p-value."""
    from scipy.stats import spearmanr

    count = len(left)
    if count < 3 or len(set(left)) == 1 or len(set(right)) == 1:
        return Correlation(None, None, count)
    result = spearmanr(left, right)
    return Correlation(float(result.statistic), float(result.pvalue), count)
