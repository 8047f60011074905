"""Votes are decided in all orders at once where the rules themselves decide them."""

from __future__ import annotations

import numpy as np
import pytest

from eager_sgl import BetaRule, ModeTest
from eager_sgl.voting.deciding import VoteRule, num_missing
from evals.laboratory.costs import timed
from evals.laboratory.starting import Number, Waves, missing_votes

RULES = [BetaRule(), BetaRule(0.6), ModeTest(0.3), ModeTest(0.9)]


def expected(rule: VoteRule, votes: list[int]) -> list[int]:
    given = [None if vote < 0 else vote for vote in votes]
    numbers = range(len(votes) + 1)
    return [num_missing(rule, given[:number], len(votes) - number) for number in numbers]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_as_many_votes_are_missing_as_by_the_rule(rule: VoteRule, num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    shares = rng.dirichlet(np.ones(num_classes + 1), 60)
    votes = np.array([rng.choice(num_classes + 1, 14, p=p) - 1 for p in shares])
    assert isinstance(rule, BetaRule | ModeTest)
    missing = missing_votes(rule, votes)
    assert missing.tolist() == [expected(rule, row) for row in votes.tolist()]


def test_no_answer_at_all_is_never_decided_before_the_end() -> None:
    votes = np.full((1, 6), -1)
    for rule in (BetaRule(), ModeTest()):
        assert (missing_votes(rule, votes)[0, :-1] > 0).all()


def test_a_fixed_number_of_votes_is_missing_until_it_is_there() -> None:
    votes = np.zeros((2, 5), int)
    assert missing_votes(Number(3), votes).tolist() == [[3, 2, 1, 0, 0, 0]] * 2
    assert missing_votes(Number(), votes)[0].tolist() == [5, 4, 3, 2, 1, 0]
    assert missing_votes(Number(9), votes)[0].tolist() == [5, 4, 3, 2, 1, 0]


def test_waves_end_where_the_rule_is_asked() -> None:
    assert Waves(4).ends(10) == [0, 4, 8, 10]
    assert Waves(2, 2).ends(20) == [0, 2, 4, 8, 16, 20]
    votes = np.zeros((1, 10), int)
    # Four equal votes decide, which the rule learns at the end of the second wave.
    assert missing_votes(BetaRule(), votes, Waves(3))[0, :7].tolist() == [3, 2, 1, 3, 2, 1, 0]


def test_the_cost_of_an_order_does_not_depend_on_other_orders() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, (40, 8))
    missing = rng.integers(0, 4, (40, 9))  # of weights, which may decide sooner than they say
    missing[:, :2], missing[:, 8] = 2, 0
    together = timed(missing, lengths)
    for row in range(40):
        alone = timed(missing[[row]], lengths[[row]])
        assert alone.tokens.tolist() == together.tokens[[row]].tolist()
        assert alone.steps.tolist() == together.steps[[row]].tolist()
