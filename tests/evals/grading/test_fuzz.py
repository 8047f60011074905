"""A hundred pairs of the fuzz; `make fuzz` judges 10,000."""

from __future__ import annotations

from tests.evals.grading.fuzz import pairs, results


def test_nothing_is_accepted_that_the_numbers_refute() -> None:
    found = results(pairs(100, seed=12))
    assert [pair for pair, outcome in found if outcome == "accepted" and not pair.is_equal] == []
    equal = [outcome for pair, outcome in found if pair.is_equal]
    assert len(equal) >= 30
    assert equal.count("accepted") >= 0.95 * len(equal)


def test_the_pairs_are_those_of_the_seed() -> None:
    assert pairs(20, seed=1) == pairs(20, seed=1) != pairs(20, seed=2)
