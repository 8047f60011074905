"""Vote rules: when a vote is decided, and how often it is decided wrongly."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl import BetaRule, ConsensusShare, ModeTest, VoteRule
from eager_sgl.voting.deciding import ByCounts, num_missing, num_to_start
from eager_sgl.voting.votes import vote_winner

RULES = (
    BetaRule(),
    BetaRule(0.5),
    ModeTest(),
    ModeTest(0.3),
    ConsensusShare(),
    ConsensusShare(0.6, 3),
)
VOTES = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30)


@pytest.mark.parametrize(("rule", "number"), [(BetaRule(), 4), (ModeTest(), 10)])
def test_equal_votes_decide_at_the_stated_number(rule: VoteRule, number: int) -> None:
    assert rule(["a"] * number)
    assert not rule(["a"] * (number - 1))


@pytest.mark.parametrize("rule", RULES)
def test_no_votes_decide_nothing(rule: VoteRule) -> None:
    assert not rule([])
    assert not rule([None] * 50)


@pytest.mark.parametrize("rule", RULES)
@given(votes=VOTES)
def test_samples_without_an_answer_do_not_vote(rule: VoteRule, votes: list[str | None]) -> None:
    assert rule(votes) == rule([vote for vote in votes if vote is not None])


@pytest.mark.parametrize("rule", RULES)
@given(votes=VOTES, limit=st.integers(0, 40))
def test_the_missing_votes_are_the_least_that_decide(
    rule: VoteRule, votes: list[str | None], limit: int
) -> None:
    number = num_missing(rule, votes, limit)
    leading = max("abc", key=lambda answer: (votes.count(answer), -_first(votes, answer)))
    if number < limit:
        assert rule(votes + [leading] * number)
    assert not any(rule(votes + [leading] * fewer) for fewer in range(number))


def _first(votes: list[str | None], answer: str) -> int:
    return votes.index(answer) if answer in votes else len(votes)


def first_decided(rule: VoteRule, rng: random.Random, shares: dict[str, float]) -> str | None:
    """The answer that independent votes decide on, asked after every vote; None within 150."""
    votes: list[str | None] = []
    for vote in rng.choices(list(shares), list(shares.values()), k=150):
        votes.append(vote)
        if rule(votes):
            return max(set(votes), key=votes.count)
    return None


def num_wrong(rule: VoteRule, shares: dict[str, float], num_runs: int) -> int:
    rng = random.Random(7)
    decided = [first_decided(rule, rng, shares) for _ in range(num_runs)]
    return sum(answer not in (None, "mode") for answer in decided)


@pytest.mark.parametrize(
    "shares", [{"mode": 0.51, "b": 0.49}, {"mode": 0.16, **dict.fromkeys("bcdefgh", 0.12)}]
)
def test_the_mode_test_errs_seldom_however_often_it_is_asked(shares: dict[str, float]) -> None:
    """At an error of 0.2, more than 133 of 500 have a probability below 1e-3."""
    assert num_wrong(ModeTest(0.2), shares, 500) <= 133


def test_the_beta_rule_errs_more_often_than_its_confidence() -> None:
    """Since it is asked after every vote; so the mode test's bound is not loose by its data."""
    assert num_wrong(BetaRule(0.8), {"mode": 0.51, "b": 0.49}, 500) > 133


@pytest.mark.parametrize("value", [0, 1, -0.1, float("nan")])
@pytest.mark.parametrize("kind", [BetaRule, ModeTest])
def test_a_share_outside_its_range_is_refused(kind: Any, value: float) -> None:
    with pytest.raises(ValueError, match=r"must be a number in [(\[]0(.5)?, 1\)"):
        kind(value)


WEIGHTED = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.floats(0.1, 8)), max_size=20)


@given(WEIGHTED, st.floats(0.51, 1), st.integers(1, 6))
def test_a_consensus_is_a_share_of_the_weights(
    ballots: list[tuple[str | None, float]], share: float, at_least: int
) -> None:
    votes, weights = [vote for vote, _ in ballots], [weight for _, weight in ballots]
    totals = {answer: sum(w for v, w in ballots if v == answer) for answer in ("a", "b")}
    has_voted = len(votes) - votes.count(None) >= at_least
    expected = has_voted and max(totals.values()) >= share * sum(totals.values())
    assert ConsensusShare(share, at_least)(votes, weights) == expected


@given(WEIGHTED, st.integers(0, 12))
def test_missing_weights_are_those_of_the_votes_so_far(
    ballots: list[tuple[str | None, float]], limit: int
) -> None:
    rule, votes = ConsensusShare(0.8, 3), [vote for vote, _ in ballots]
    weights = [weight for _, weight in ballots]
    number = num_missing(rule, votes, limit, weights)
    known = [weight for vote, weight in ballots if vote is not None]
    mean = sum(known) / len(known) if known else 1.0
    leading = vote_winner(votes, weights) or "a"
    assert not any(
        rule(votes + [leading] * fewer, weights + [mean] * fewer) for fewer in range(number)
    )
    assert number == limit or rule(votes + [leading] * number, weights + [mean] * number)


def test_a_vote_without_votes_is_not_decided() -> None:
    assert num_missing(lambda votes: True, [], 4) == 1
    assert num_missing(lambda votes: True, ["a"], 4) == 0
    with pytest.raises(ValueError, match="confidence is 0.4"):
        BetaRule(0.4)


def test_a_rule_of_counts_needs_as_many_votes_whatever_they_weigh() -> None:
    votes, weights = ["a", "a", "b"], [0.1, 0.1, 9.0]
    rule = BetaRule(0.8)
    assert num_missing(ByCounts(rule), votes, 9, weights) == num_missing(rule, votes, 9)


@given(votes=VOTES, missing=st.integers(0, 40), less=st.floats(0, 5), more=st.floats(0, 5))
def test_at_least_the_missing_votes_start_and_more_the_further_ahead(
    votes: list[str | None], missing: int, less: float, more: float
) -> None:
    numbers = [
        num_to_start(BetaRule(), votes, missing, ahead) for ahead in (0.0, *sorted((less, more)))
    ]
    assert numbers[0] == missing
    assert numbers == sorted(numbers)


@given(votes=VOTES, missing=st.integers(1, 40))
def test_as_many_start_as_give_the_missing_votes_at_the_share_so_far(
    votes: list[str | None], missing: int
) -> None:
    number = num_to_start(BetaRule(), votes, missing, 1.0)
    leading = max(votes.count(answer) for answer in "abc")
    if leading:
        assert number * leading / len(votes) >= missing > (number - 1) * leading / len(votes)
    else:  # as if one had voted for an answer
        assert number == missing * max(len(votes), 1)


def test_clear_votes_start_no_more_than_can_decide_and_doubtful_ones_many() -> None:
    for votes in ([], ["a"], ["a"] * 3):
        missing = num_missing(BetaRule(), votes, 32)
        assert num_to_start(BetaRule(), votes, missing, 1.0) == missing == 4 - len(votes)
    assert num_missing(BetaRule(), ["a", "b", "c"], 32) == 5
    assert num_to_start(BetaRule(), ["a", "b", "c"], 5, 1.0) == 15


def test_shares_are_those_of_the_weights_where_these_decide() -> None:
    votes, weights = ["a", "b", None, "c"], [3.0, 0.5, 0.0, 0.5]
    share, missing = ConsensusShare(0.8, 3), 6
    assert num_to_start(share, votes, missing, 1.0, weights) == math.ceil(missing * 4 / 2.25)
    equal = num_to_start(share, votes, missing, 1.0, [2.0, 2.0, 0.0, 2.0])
    assert equal == num_to_start(share, votes, missing, 1.0) == missing * 4
    counts = ByCounts(BetaRule())
    assert num_to_start(counts, votes, missing, 1.0, weights) == missing * 4
