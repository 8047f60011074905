"""Tokens to equal pass: ratios and intervals that are known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from evals.analysis.prompt_curves import PromptCurves, prompt_curves
from evals.comparison.needed import needed_tokens
from evals.comparison.resampling import resampled
from tests.evals.fakes.solved_prompts import prompts


def test_a_method_against_itself_needs_as_many_tokens() -> None:
    (curves,) = prompt_curves(prompts("parallel", [0] * 12 + [None] * 4, cost=5))
    result = needed_tokens(curves, curves, curves, 8)
    assert result.ratio == pytest.approx(1)
    assert result.interval is not None
    assert result.interval[0] < 1 < result.interval[1], (
        "equal in 16 prompts is not equal everywhere"
    )
    assert result.tokens == pytest.approx(8 * 5)


def test_a_ratio_is_of_the_tokens_to_the_target() -> None:
    """A search that solves at once what sampling solves with a chance of 8 in 20 at k = 8."""
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [0] * 20, cost=10)]
    )
    result = needed_tokens(searched, sampled, sampled, 8)
    assert result.target == pytest.approx(8 / 20)
    assert result.tokens == pytest.approx(0.4 * 10)  # linear between no and one sequence
    assert result.ratio == pytest.approx(0.4 * 10 / 80)


def test_an_interval_is_that_of_weighted_prompts_with_an_unseen_run() -> None:
    solved = [0, 2, 5, None, 7, 1, 3, 12]
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 6 + [None] * 2, 10), *prompts("best_first", solved, 7)]
    )

    def needed(curves: PromptCurves, weights: NDArray[np.float64], target: float) -> float:
        passes, tokens = (weights @ values for values in (curves.passes, curves.tokens))
        if target <= 0:
            return 0.0
        for k in range(1, len(passes)):
            if passes[k] >= target - 1e-12:
                share = (target - passes[k - 1]) / (passes[k] - passes[k - 1])
                return float(tokens[k - 1] + share * (tokens[k] - tokens[k - 1]))
        return math.inf

    drawn = resampled(searched)
    assert drawn.weights.sum(axis=1) + drawn.unseen == pytest.approx(np.ones(2000))
    ratios: list[list[float]] = []
    for sign in (-1, 1):
        ratios.append([])
        for weights, unseen in zip(drawn.weights, drawn.unseen, strict=True):
            target = float(weights @ sampled.passes[:, 16])
            num_tokens = needed(searched, weights, target + sign * unseen)
            ratios[-1].append(num_tokens / needed(sampled, weights, target))
    result = needed_tokens(searched, sampled, sampled, 16)
    assert result.interval == pytest.approx((sorted(ratios[0])[100], sorted(ratios[1])[1899]))


def test_what_is_never_reached_has_no_ratio() -> None:
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [None] * 20, cost=10)]
    )
    result = needed_tokens(searched, sampled, sampled, 8)
    assert (result.tokens, result.ratio, result.interval) == (None, None, None)


def test_resamples_that_never_get_there_count_as_infinite() -> None:
    solved = [0] * 11 + [None] * 9
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", solved, cost=10)]
    )
    result = needed_tokens(searched, sampled, sampled, 10)
    assert result.ratio is not None
    assert result.interval is not None
    assert math.isinf(result.interval[1])


def test_resamples_that_neither_side_gets_through_count_as_infinite_too() -> None:
    solved = [0] * 11 + [None] * 9
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", solved, cost=10)]
    )
    result = needed_tokens(searched, sampled, searched, 10)
    assert result.interval is not None
    assert result.interval[0] < 1
    assert math.isinf(result.interval[1])


def test_a_target_of_nothing_has_no_ratio() -> None:
    (curves,) = prompt_curves(prompts("parallel", [None] * 3, cost=5))
    result = needed_tokens(curves, curves, curves, 8)
    assert (result.target, result.tokens, result.ratio) == (0, 0, None)
