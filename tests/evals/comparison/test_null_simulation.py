"""The interval errs as seldom as it says where the plain bootstrap does not; and it decides."""

import numpy as np
import pytest

from evals.analysis.intervals import Resamples, mean_interval, resamples
from evals.comparison.null_simulation import (
    NUM_SEQUENCES,
    WORLDS,
    Case,
    matched_errors,
    ratio_errors,
)

REPEATS, NUM_RESAMPLES = 200, 1000
NOISE = 2.5 * (0.025 * 0.975 / REPEATS) ** 0.5


@pytest.mark.parametrize(
    "case",
    [
        Case("levels", 16, 60),
        Case("uniform", 8, 20),
        Case("two kinds", 4, 30),
        Case("near 1", 2, 100),
        Case("near 0", 16, 10),
        Case("all at .9", 1, 60),
        Case("levels", 16, 30, num_seeds=3),
    ],
)
def test_neither_side_errs_more_often_than_it_says(case: Case) -> None:
    errors = matched_errors(case, REPEATS, NUM_RESAMPLES)
    assert max(errors.better, errors.worse) <= 0.025 + NOISE


@pytest.mark.parametrize(
    "case", [Case("levels", 16, 60), Case("uniform", 16, 30), Case("two kinds", 4, 20)]
)
def test_the_plain_bootstrap_errs_too_often(case: Case) -> None:
    """What the simulation is for: prompts that nearly all agree fool it, to one side."""
    errors = matched_errors(case, REPEATS, NUM_RESAMPLES)
    assert max(errors.plain_better, errors.plain_worse) > 0.025 + NOISE


def test_a_method_that_passes_more_is_found_out() -> None:
    assert matched_errors(Case("levels", 4, 300, gain=0.05), 60, NUM_RESAMPLES).better > 0.8
    assert matched_errors(Case("levels", 4, 100, gain=0.1), 60, NUM_RESAMPLES).better > 0.8


@pytest.mark.parametrize("case", [Case("levels", 16, 30), Case("uniform", 24, 40, num_seeds=2)])
def test_a_search_that_samples_needs_no_fewer_tokens(case: Case) -> None:
    errors = ratio_errors(case, 60, 500)
    assert max(errors.better, errors.worse) <= 0.05 + 2.5 * (0.05 * 0.95 / 60) ** 0.5


@pytest.mark.parametrize("world", WORLDS)
def test_pass_rates_are_chances(world: str) -> None:
    chances = WORLDS[world](np.random.default_rng(0), 40)
    assert chances.shape == (40,)
    assert chances.min() >= 0
    assert chances.max() <= 1
    assert NUM_SEQUENCES == 24


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
@pytest.mark.parametrize("num_prompts", [2, 10, 300])
def test_weights_and_the_unseen_run_make_a_whole(num_prompts: int, num_seeds: int) -> None:
    drawn = resamples(num_prompts, num_seeds, 50)
    assert drawn.weights.shape == (50, num_prompts)
    whole = drawn.weights.sum(axis=1) + num_seeds * drawn.unseen
    assert whole == pytest.approx(np.ones(50))
    assert drawn.unseen.mean() == pytest.approx(1 / num_seeds / (num_prompts + 1), rel=0.5)


def test_an_interval_reaches_to_either_side_by_the_unseen_run() -> None:
    drawn = Resamples(np.full((4, 1), 0.9), np.full(4, 0.1))
    assert drawn.interval(np.full(4, 0.5), 0.95) == pytest.approx((0.4, 0.6))


@pytest.mark.parametrize("shift", [-1.0, -0.25, 0.0, 0.25, 1.0])
def test_equal_differences_leave_what_was_not_seen(shift: float) -> None:
    """The exact binomial bound, about a twentieth of 60 prompts."""
    interval = mean_interval(np.full(60, shift), 1, 0.95)
    assert interval is not None
    bound = 1 - 0.025 ** (1 / 60)
    low, high = shift * (1 - bound) - bound, shift * (1 - bound) + bound
    assert interval == pytest.approx((max(low, -1), min(high, 1)), abs=0.01)


@pytest.mark.parametrize("num_prompts", [1, 10, 60])
def test_equal_shares_leave_what_was_not_seen_on_one_side(num_prompts: int) -> None:
    """The exact binomial bounds: ten prompts, all right, are at least .74 at 90 %."""
    drawn, bound = resamples(num_prompts), 0.05 ** (1 / num_prompts)
    right, wrong = np.ones(num_prompts), np.zeros(num_prompts)
    assert drawn.share_interval(right, 0.9) == pytest.approx((bound, 1), abs=0.01)
    assert drawn.share_interval(wrong, 0.9) == pytest.approx((0, 1 - bound), abs=0.01)
    low, high = drawn.share_interval(right / 2, 0.9)
    assert 0 <= low < 0.5 < high <= 1
    assert low == pytest.approx(1 - high, abs=0.01)


def test_a_single_prompt_has_no_interval() -> None:
    assert mean_interval(np.zeros(1), 1, 0.95) is None
