"""Metrics against their definitions, counted out where that is possible."""

import math
import statistics
from itertools import combinations, permutations, product

import pytest

from evals.analysis.metrics import (
    coverage,
    equivalent_parallel_k,
    estimate,
    majority_at_k,
    majority_correct,
    pass_at_k,
    pass_curve,
    pass_rate,
    rank_correlation,
)
from evals.grading.votes import vote_classes


@pytest.mark.parametrize("num_sequences", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sequence(num_sequences: int) -> None:
    for num_correct in range(num_sequences + 1):
        outcomes = [True] * num_correct + [False] * (num_sequences - num_correct)
        for k in range(1, num_sequences + 1):
            subsets = list(combinations(outcomes, k))
            share = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(num_sequences, num_correct, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_is_unbiased() -> None:
    """Averaged over all outcomes of n draws it is the true chance of k draws."""
    chance, num_sequences, k = 0.3, 6, 4
    mean = 0.0
    for outcomes in product([True, False], repeat=num_sequences):
        weight = math.prod(chance if outcome else 1 - chance for outcome in outcomes)
        mean += weight * pass_at_k(num_sequences, sum(outcomes), k)
    assert mean == pytest.approx(1 - (1 - chance) ** k)


def test_pass_at_k_is_linear_between_whole_k() -> None:
    below, above = pass_at_k(8, 3, 2), pass_at_k(8, 3, 3)
    assert pass_at_k(8, 3, 2.25) == pytest.approx(0.75 * below + 0.25 * above)
    assert pass_at_k(8, 3, 0) == 0
    assert pass_at_k(8, 3, 0.5) == pytest.approx(0.5 * 3 / 8)


def test_pass_at_k_of_all_sequences_is_coverage() -> None:
    for num_correct in range(5):
        correct = [True] * num_correct + [False] * (4 - num_correct)
        assert pass_at_k(4, num_correct, 4) == coverage(correct)


def test_pass_curve_is_pass_at_every_whole_k() -> None:
    curve = pass_curve([True, False, True, False, False])
    assert curve.tolist() == pytest.approx([pass_at_k(5, 2, k) for k in range(6)])


@pytest.mark.parametrize(("num_correct", "k"), [(-1, 1), (5, 1), (1, 4.01), (1, -0.1)])
def test_pass_at_k_refuses_what_it_cannot_estimate(num_correct: int, k: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 4\]"):
        pass_at_k(4, num_correct, k)


def test_equivalent_k_spends_the_same_tokens() -> None:
    assert equivalent_parallel_k(1600, 1600, 16) == 16
    assert equivalent_parallel_k(250, 1600, 16) == 2.5


def test_estimate_is_mean_and_standard_error() -> None:
    values = [0.0, 1.0, 1.0, 0.25]
    result = estimate(values)
    assert result.value == pytest.approx(statistics.mean(values))
    assert result.stderr == pytest.approx(statistics.stdev(values) / 2)


def test_estimate_of_one_prompt_has_no_error() -> None:
    assert math.isnan(estimate([1.0]).stderr)
    with pytest.raises(ValueError, match="at least one prompt"):
        estimate([])


def test_pass_rate() -> None:
    assert pass_rate([True, False, False, False]) == 0.25


@pytest.mark.parametrize(
    ("votes", "correct", "expected"),
    [
        ([0, 1, 1], [True, False, False], False),  # the majority is wrong
        ([0, 1, 1], [False, True, True], True),
        ([0, 1, 0, 1], [True, False, True, False], True),  # a tie: the first class wins
        ([0, 1, 1, 0], [False, True, True, False], False),
        ([None, 1, None], [False, True, False], True),  # those without an answer do not vote
        ([None, None, 2, 3, 3], [False, False, True, False, False], False),
        ([None, None], [False, False], False),
    ],
)
def test_majority(votes: list[int | None], correct: list[bool], expected: bool) -> None:
    assert majority_correct(votes, correct) is expected


VOTES = ([0, 1, 1, 0, 4, None], [True, False, False, True, False, False])


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_majority_at_k_is_the_mean_over_ordered_subsets(k: int) -> None:
    """Against the definition: every ordered subset, judged as a prompt of its own."""
    votes, correct = VOTES
    judged = []
    for chosen in permutations(range(len(votes)), k):
        classes = vote_classes([votes[index] for index in chosen])
        judged.append(majority_correct(classes, [correct[index] for index in chosen]))
    assert majority_at_k(votes, correct, k) == pytest.approx(statistics.mean(judged), abs=0.02)


def test_majority_at_k_is_the_same_every_time() -> None:
    assert majority_at_k(*VOTES, 3) == majority_at_k(*VOTES, 3)


def test_majority_at_k_of_one_answer_and_of_none() -> None:
    assert majority_at_k([0, 0, 0], [True, True, True], 2) == 1
    assert majority_at_k([None, None], [False, False], 1) == 0
    with pytest.raises(ValueError, match=r"k is 3; it must be in \[1, 2\]"):
        majority_at_k([0, 0], [True, True], 3)


def test_rank_correlation_knows_order_only() -> None:
    result = rank_correlation([1, 2, 3, 4, 5, 6], [36, 25, 16, 9, 4, 1])
    assert result.spearman == pytest.approx(-1)
    assert result.p_value is not None
    assert result.p_value < 1e-6
    assert result.count == 6


def test_rank_correlation_is_open_where_it_is_not_defined() -> None:
    for left, right in ([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]):
        result = rank_correlation(left, right)
        assert (result.spearman, result.p_value, result.count) == (None, None, len(left))
