"""Full Parallel at equal tokens: the estimate, and whether its interval keeps what it promises."""

from typing import Any

import numpy as np
import pytest

from evals.analysis.matching import MatchedParallel, match_parallel
from evals.analysis.metrics import pass_at_k, pass_curve

NUM_SEQUENCES = 8


def curves(chances: Any, rng: np.random.Generator) -> Any:
    draws = rng.random((len(chances), NUM_SEQUENCES)) < chances[:, None]
    return np.array([pass_curve(row.tolist()) for row in draws])


def test_the_estimate_is_interpolated_at_the_tokens() -> None:
    counts = [1, 0, 3, 8]
    table = np.array([pass_curve([True] * c + [False] * (8 - c)) for c in counts])
    values, tokens = np.array([1.0, 0, 1, 1]), np.array([10.0, 30, 20, 20])
    matched = match_parallel(values, tokens, table, np.full(4, 80.0))
    assert matched.k == pytest.approx(2.0)
    expected = np.mean([pass_at_k(8, c, 2) for c in counts])
    assert matched.pass_at_k is not None
    assert matched.pass_at_k.value == pytest.approx(expected)
    assert matched.difference == pytest.approx(0.75 - expected)
    assert matched.interval is not None
    low, high = matched.interval
    assert low < 0.75 - expected < high


def test_nothing_is_claimed_beyond_what_parallel_has() -> None:
    table = np.array([pass_curve([True, False])] * 3)
    matched = match_parallel(np.ones(3), np.full(3, 21.0), table, np.full(3, 20.0))
    assert matched.k == pytest.approx(2.1)
    assert (matched.pass_at_k, matched.difference, matched.interval) == (None, None, None)


def test_all_the_tokens_of_parallel_are_still_matched() -> None:
    table = np.array([pass_curve([True, False])] * 3)
    matched = match_parallel(np.array([1.0, 0, 1]), np.full(3, 20.0), table, np.full(3, 20.0))
    assert matched.difference == pytest.approx(-1 / 3)


def test_one_prompt_has_a_difference_without_an_interval() -> None:
    table = np.array([pass_curve([True, False])])
    matched = match_parallel(np.ones(1), np.full(1, 10.0), table, np.full(1, 20.0))
    assert matched.difference == pytest.approx(0.5)
    assert matched.interval is None


@pytest.mark.parametrize("num_prompts", [2, 9, 25, 100])
@pytest.mark.parametrize(("value", "parallel"), [(1.0, 1), (0.0, 0), (1.0, 0), (0.0, 1)])
def test_prompts_that_all_say_the_same_are_not_certain(
    num_prompts: int, value: float, parallel: int
) -> None:
    """25 of 25 passed are no proof of more than 0.863, the exact binomial bound."""
    table = np.array([pass_curve([bool(parallel)] * 2)] * num_prompts)
    full = np.full(num_prompts, 20.0)
    matched = match_parallel(np.full(num_prompts, value), full / 2, table, full)
    bound = 1 - 0.025 ** (1 / num_prompts)
    difference = value - parallel
    low, high = max(-1, difference * (1 - bound) - bound), min(1, difference * (1 - bound) + bound)
    assert matched.interval == pytest.approx((low, high), abs=0.02)
    clear = abs(difference) > 2 * bound and num_prompts >= 10
    assert matched.verdict == (("better" if value else "worse") if clear else "undecided")


def test_a_method_that_lost_no_prompt_is_not_better_for_that() -> None:
    """Prompts that nobody solves beside prompts that all but always are: a loss was to be expected
    in one prompt of twelve, and in a quarter of such runs none is seen.
    """
    table = np.array([pass_curve([i > 0 for i in range(12)])] * 12 + [pass_curve([False] * 12)] * 4)
    values = np.array([1.0] * 12 + [0.0] * 4)
    matched = match_parallel(values, np.full(16, 10.0), table, np.full(16, 120.0))
    assert matched.difference == pytest.approx(12 / 16 / 12)
    assert matched.verdict == "undecided"


def test_several_seeds_count_as_runs_of_their_own() -> None:
    """What was not seen in 3 × 20 runs may be as much as a third of what 20 leave open."""
    arguments = (np.ones(20), np.full(20, 10.0), np.array([pass_curve([True] * 2)] * 20))
    widths = []
    for num_seeds in (1, 3):
        matched = match_parallel(*arguments, np.full(20, 20.0), num_seeds)
        assert matched.interval is not None
        widths.append(matched.interval[1] - matched.interval[0])
    assert widths[1] == pytest.approx(widths[0] / 3)


def test_full_parallel_samples_no_part_of_a_sequence() -> None:
    """A method of one sequence that happens to be short is compared with one, not with 0.9."""
    table = np.array([pass_curve([True] * 4 + [False])] * 20)
    matched = match_parallel(np.ones(20), np.full(20, 9.0), table, np.full(20, 50.0))
    assert matched.k == pytest.approx(0.9)
    assert matched.difference == pytest.approx(1 - 0.8)


@pytest.mark.parametrize(
    ("num_prompts", "difference", "interval", "verdict"),
    [
        (50, 0.2, (0.1, 0.3), "better"),
        (50, -0.2, (-0.3, -0.1), "worse"),
        (50, 0.1, (0.0, 0.2), "undecided"),
        (9, 0.2, (0.1, 0.3), "undecided"),
        (1, 0.2, None, "undecided"),
        (50, None, None, None),
    ],
)
def test_a_verdict_needs_an_interval_clear_of_zero_and_prompts_enough(
    num_prompts: int, difference: float, interval: Any, verdict: str
) -> None:
    matched = MatchedParallel(2.0, num_prompts, None, difference, interval)
    assert matched.verdict == verdict


def test_the_interval_is_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    arguments = (rng.random(20), rng.random(20) * 40, curves(rng.random(20), rng), np.full(20, 80))
    assert match_parallel(*arguments) == match_parallel(*arguments)


@pytest.mark.parametrize(("num_used", "edge"), [(3, 0.0), (5, 0.0), (3, 0.15)])
def test_the_interval_covers_the_truth_as_often_as_it_says(num_used: int, edge: float) -> None:
    """Runs of a known world: a method that is Full Parallel with fewer sequences, plus an edge.

    Its true difference is the edge; 95 of 100 intervals must hold it at least.
    """
    rng = np.random.default_rng(num_used)
    num_runs, num_prompts, held = 120, 80, 0
    for _ in range(num_runs):
        chances = rng.beta(0.4, 1.2, num_prompts)
        table = curves(chances, rng)
        reached = (1 - edge) * (1 - (1 - chances) ** num_used) + edge
        shift = edge * float(np.mean((1 - chances) ** num_used))
        values = (rng.random(num_prompts) < reached).astype(float)
        tokens = rng.poisson(10 * num_used, num_prompts).astype(float)
        parallel_tokens = rng.poisson(10 * NUM_SEQUENCES, num_prompts).astype(float)
        matched = match_parallel(values, tokens, table, parallel_tokens)
        assert matched.interval is not None
        held += matched.interval[0] <= shift <= matched.interval[1]
    assert 0.9 <= held / num_runs <= 1
