"""Entropies and temperatures against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from eager_sgl.signals import censored_mean_peak, mean_peak, retemper, top_k_entropy

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(0, 3, (50, 200))


def top(logprobs: Any, k: Any = 20) -> Any:
    return -np.sort(-logprobs, axis=-1)[:, :k]


def test_the_entropy_of_a_uniform_distribution_is_the_logarithm_of_its_size() -> None:
    assert top_k_entropy(np.full(20, 1 / 20)) == pytest.approx(np.log(20))


def test_a_certain_step_has_no_entropy() -> None:
    assert top_k_entropy(np.array([1.0, 0.0, 0.0])) == 0


def test_entropy_agrees_with_scipy() -> None:
    probabilities = softmax(LOGITS, axis=-1)
    assert top_k_entropy(probabilities) == pytest.approx(entropy(probabilities, axis=-1))


@pytest.mark.parametrize(("taken_at", "wanted"), [(0.6, 1.0), (1.0, 0.6), (0.6, 0.6), (2.0, 0.3)])
def test_another_temperature_is_exact_over_the_top_k(taken_at: float, wanted: float) -> None:
    given = top(log_softmax(LOGITS / taken_at, axis=-1))
    expected = np.exp(top(log_softmax(LOGITS / wanted, axis=-1)))
    expected /= expected.sum(-1, keepdims=True)
    assert retemper(given, taken_at=taken_at, wanted=wanted) == pytest.approx(expected)


def test_impossible_tokens_count_as_probability_zero() -> None:
    probabilities = retemper(np.array([np.log(0.5), np.log(0.5), -np.inf]), taken_at=1, wanted=0.5)
    assert probabilities.tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert top_k_entropy(probabilities) == pytest.approx(np.log(2))


def test_float32_logprobs_are_computed_in_double() -> None:
    given = log_softmax(LOGITS, axis=-1).astype(np.float32)
    assert retemper(given, taken_at=1, wanted=1).dtype == np.float64


def test_the_peak_of_a_long_sequence_is_its_highest_thousandth() -> None:
    entropies = np.concatenate([np.zeros(1998), [2.0, 1.0], [np.nan] * 500])
    assert mean_peak(entropies) == pytest.approx(1.5, abs=0.51)
    assert mean_peak(np.array([0.1, 0.9, np.nan])) == 0.9


def test_a_sequence_that_was_not_monitored_has_no_peak() -> None:
    assert mean_peak(np.full(5, np.nan)) is None


def test_peaks_below_the_threshold_count_as_the_threshold() -> None:
    unknown = np.full(10, np.nan)
    assert censored_mean_peak(unknown, 0.7) == 0.7
    known = unknown.copy()
    known[[2, 5]] = [0.9, 1.4]
    assert censored_mean_peak(known, 0.7) == 1.4
    long = np.full(2500, np.nan)
    long[[7, 80]] = [1.0, 1.6]
    assert censored_mean_peak(long, 0.7) == pytest.approx((1.6 + 1.0 + 0.7) / 3)
    assert censored_mean_peak(known, 0.7) == mean_peak(known)
