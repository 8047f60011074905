"""A hundred pairs of the fuzz; `make fuzz` judges 10,000."""

from __future__ import annotations

from fractions import Fraction

from tests.evals.grading.fuzz import equal, pairs, results
from tests.evals.grading.fuzz_terms import PI, Term


def test_no_pair_is_accepted_that_the_numbers_refute() -> None:
    judged = results(pairs(100, seed=12))
    assert [pair for pair, outcome in judged if outcome == "accepted" and not pair.is_equal] == []
    outcomes = [outcome for pair, outcome in judged if pair.is_equal]
    assert len(outcomes) >= 30
    assert outcomes.count("accepted") >= 0.95 * len(outcomes)


def test_the_seed_fixes_the_pairs() -> None:
    assert pairs(20, seed=1) == pairs(20, seed=1) != pairs(20, seed=2)


def test_values_that_shrink_with_more_digits_are_zero() -> None:
    five, eleven, tiny = (_number(value) for value in (5, 11, Fraction(1, 10**160)))
    turns = Term("mul", (five, PI)), Term("div", (Term("mul", (_number(55), PI)), eleven))
    zeros = [Term("sin", (turn,)) for turn in turns]  # equal with 100 digits, different with 200
    assert equal(zeros[0].value, zeros[1].value)
    assert not equal(tiny.value, Term("mul", (five, tiny)).value)


def _number(value: int | Fraction) -> Term:
    return Term("number", content=Fraction(value))
