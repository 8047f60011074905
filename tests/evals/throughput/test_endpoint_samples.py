"""The test of distributions: it keeps its error, and finds what differs."""

from __future__ import annotations

import numpy as np

from evals.throughput.endpoint.samples import p_value_of

NUM_TRIALS = 40


def sample(rng: np.random.Generator, shares: list[float], number: int) -> list[list[str]]:
    """16 answers of each prompt."""
    return [list(map(str, rng.choice(len(shares), 16, p=shares))) for _ in range(number)]


def test_samples_of_one_law_are_seldom_rejected() -> None:
    """Of 40 trials at most 8 have p < 0.05, as binomial bounds allow (p < 0.001)."""
    rng = np.random.default_rng(1)
    law = [0.6, 0.2, 0.1, 0.1]
    trials = [
        p_value_of(sample(rng, law, 12), sample(rng, law, 12), seed)[1]
        for seed in range(NUM_TRIALS)
    ]
    assert sum(p < 0.05 for p in trials) <= 8
    assert min(trials) >= 0.001
    assert max(trials) > 0.5


def test_other_laws_are_rejected() -> None:
    rng = np.random.default_rng(2)
    first, second = sample(rng, [0.8, 0.2], 24), sample(rng, [0.5, 0.5], 24)
    distance, p_value = p_value_of(first, second)
    assert p_value < 0.01
    assert distance > 0.2


def test_equal_samples_have_no_distance() -> None:
    samples = [["a", "b", "a"], ["c", "c", "c"]]
    assert p_value_of(samples, samples) == (0.0, 1.0)
