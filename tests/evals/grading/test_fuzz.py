"""A hundred pairs of the fuzz; `make fuzz` judges 10,000."""

from __future__ import annotations

from fractions import Fraction

from tests.evals.grading.fuzz import equal, pairs, results
from tests.evals.grading.fuzz_terms import PI, Term


def test_nothing_is_accepted_that_the_numbers_refute() -> None:
    found = results(pairs(100, seed=12))
    assert [pair for pair, outcome in found if outcome == "accepted" and not pair.is_equal] == []
    equal = [outcome for pair, outcome in found if pair.is_equal]
    assert len(equal) >= 30
    assert equal.count("accepted") >= 0.95 * len(equal)


def test_the_pairs_are_those_of_the_seed() -> None:
    assert pairs(20, seed=1) == pairs(20, seed=1) != pairs(20, seed=2)


def test_a_zero_is_what_more_digits_make_smaller() -> None:
    five, eleven, tiny = (_number(each) for each in (5, 11, Fraction(1, 10**160)))
    turns = Term("mul", (five, PI)), Term("div", (Term("mul", (_number(55), PI)), eleven))
    zeros = [Term("sin", (each,)) for each in turns]  # with 100 digits the same, with 200 not
    assert equal(zeros[0].value, zeros[1].value)
    assert not equal(tiny.value, Term("mul", (five, tiny)).value)


def _number(value: int | Fraction) -> Term:
    return Term("number", content=Fraction(value))
