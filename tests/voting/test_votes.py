"""Votes by hand: totals, weights, vote uncertainty and the confidence of a majority."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl import Sequence
from eager_sgl.voting.votes import (
    majority_confidence,
    vote_totals,
    vote_uncertainty,
    vote_weights,
    vote_winner,
)


def test_totals_are_per_answer_in_the_order_of_occurrence() -> None:
    assert list(vote_totals(["b", None, "a", "b"]).items()) == [("b", 2), ("a", 1)]
    assert vote_totals(["b", None, "a", "b"], [0.5, 4, 1, 0.25]) == {"b": 0.75, "a": 1}
    assert vote_totals([None]) == vote_totals([]) == {}


def test_the_winner_has_the_most_votes_and_a_tie_goes_to_the_first() -> None:
    assert vote_winner(["b", None, "a", "a", None, None]) == "a"
    assert vote_winner(["b", None, "a", "a"], [2.5, 9, 1, 1]) == "b"
    assert vote_winner(["b", "a", "a", "b"]) == "b"
    assert vote_winner([None]) is None


def sequence(*token_ids: int, probability: float | None) -> Sequence:
    raw = None if probability is None else math.log(probability)
    return Sequence(token_ids, (), "stop", raw_logprob=raw)


def test_the_vote_uncertainty_of_a_single_sequence_is_one_half() -> None:
    assert vote_uncertainty([sequence(1, probability=1e-200)], ["x"]) == pytest.approx(1 / 2)


def test_votes_weigh_as_much_as_their_probability() -> None:
    three = [
        sequence(1, probability=0.1),
        sequence(2, probability=0.3),
        sequence(3, probability=0.2),
    ]
    assert vote_uncertainty(three, ["x", "y", "x"]) == pytest.approx(1 - 0.3 / 0.6 + 1 / 4)
    assert vote_uncertainty(three, ["x", "y", "y"]) == pytest.approx(1 - 0.5 / 0.6 + 1 / 4)


def test_a_repeated_sequence_votes_once_but_counts_as_two_draws() -> None:
    drawn = [
        sequence(1, probability=0.1),
        sequence(2, probability=0.3),
        sequence(1, probability=0.1),
    ]
    assert vote_uncertainty(drawn, ["x", "y", "x"]) == pytest.approx(1 - 0.3 / 0.4 + 1 / 4)


def test_without_probabilities_every_draw_has_one_vote() -> None:
    drawn = [
        sequence(1, probability=None),
        sequence(2, probability=0.9),
        sequence(1, probability=None),
    ]
    assert vote_uncertainty(drawn, ["x", "y", "x"]) == pytest.approx(1 - 2 / 3 + 1 / 4)


def test_sequences_without_an_answer_agree_with_no_other() -> None:
    drawn = [
        sequence(1, probability=0.2),
        sequence(2, probability=0.2),
        sequence(3, probability=0.3),
    ]
    assert vote_uncertainty(drawn, [None, None, 1]) == pytest.approx(1 - 0.3 / 0.7 + 1 / 4)
    assert vote_uncertainty(drawn, [None, 0, 1]) == pytest.approx(1 - 0.3 / 0.7 + 1 / 4)


def test_weights_are_probabilities_as_long_as_the_highest_is_at_least_exp_minus_10() -> None:
    assert vote_weights([-9.0, -10.0, -8.0]) == pytest.approx([math.exp(-1), math.exp(-2), 1])
    assert vote_weights([0.0, -math.log(4)]) == pytest.approx([1, 1 / 4])
    # A tenth more surprisal is a factor e, however long the sequences are.
    for length in (1, 7, 5000):
        assert vote_weights([-10.0 * length, -11.0 * length]) == pytest.approx([1, math.exp(-1)])


def test_the_most_likely_of_long_sequences_does_not_outvote_the_others() -> None:
    long = [Sequence((token,), (), "stop", raw_logprob=-4000.0 - 40 * token) for token in range(4)]
    assert vote_uncertainty(long, ["x", "y", "y", "y"]) < 0.3 + 1 / 5
    weights = [math.exp(-token / 10) for token in range(4)]
    assert vote_uncertainty(long, ["x", "y", "y", "y"]) == pytest.approx(1 / sum(weights) + 1 / 5)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12))
def test_vote_uncertainty_lies_between_its_bounds(drawn: list[tuple[int, int]]) -> None:
    sequences = [sequence(token, probability=0.1 + token / 10) for token, _ in drawn]
    classes = [token % (1 + spread) for token, spread in drawn]
    lowest = 1 / (len(drawn) + 1)
    assert vote_uncertainty(sequences, [0] * len(drawn)) == pytest.approx(lowest, abs=1e-12)
    assert lowest - 1e-12 <= vote_uncertainty(sequences, classes) < 1
    assert vote_uncertainty(sequences, classes) == vote_uncertainty(
        sequences, [("answer", answer) for answer in classes]
    )


def integral(leading: int, second: int) -> Fraction:
    """P(X > 1/2) for X ~ Beta(leading + 1, second + 1), from the terms of its polynomial."""

    def up_to(x: Fraction) -> Fraction:
        powers = ((k, leading + k + 1) for k in range(second + 1))
        terms = (Fraction((-1) ** k * math.comb(second, k), n) * x**n for k, n in powers)
        return sum(terms, Fraction(0))

    return 1 - up_to(Fraction(1, 2)) / up_to(Fraction(1))


@given(leading=st.integers(0, 40), second=st.integers(0, 40))
@settings(deadline=None)
def test_the_confidence_is_the_tail_of_the_beta_distribution(leading: int, second: int) -> None:
    assert majority_confidence(leading, second) == pytest.approx(float(integral(leading, second)))


def test_the_confidence_rises_with_the_lead() -> None:
    assert majority_confidence(3, 0) == 15 / 16
    assert majority_confidence(4, 0) == 31 / 32
    assert majority_confidence(7, 7) == 0.5
    assert majority_confidence(1_000, 200) == pytest.approx(1), "a sum beyond what a float holds"
