"""A rule played on all orders at once is the same rule played on each of them, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from typing import cast

import numpy as np
import pytest

from eager_sgl import BetaRule, ConsensusShare
from eager_sgl.voting.cutting import Cutting, top_share_floor
from eager_sgl.voting.deciding import ByCounts, VoteRule, num_missing, num_to_start
from eager_sgl.voting.votes import vote_uncertainty, vote_winner
from eager_sgl.voting.weighing import by_confidence, by_count, by_probability, weights_of
from evals.laboratory.budgets import uncertainties
from evals.laboratory.costs import timed
from evals.laboratory.cutting import calibrated_floor
from evals.laboratory.draws import Draws, draw
from evals.laboratory.play import cuts_of, missing_of, play, to_start_of
from evals.laboratory.rules import Rule
from evals.laboratory.samples import RecordedSample
from evals.laboratory.syntax import read_rules
from tests.evals.laboratory.build import in_their_order, random_samples, sequences_of

NUM_ORDERS = 25
WEIGHTS = ["", "+weights:probability", "+weights:mean", "+weights:tail:2", "+weights:lowest:3"]


def rule_of(text: str) -> Rule:
    (rule,) = read_rules(text)
    return rule


def draws_of(seed: int) -> Draws:
    return draw(random_samples(seed), 10, NUM_ORDERS, seed=1)


def winner_of(rule: Rule, sequences: list[RecordedSample], votes: list[int | None]) -> int:
    """The winner of the sequences that vote; −1 without any."""
    voters = [index for index, vote in enumerate(votes) if vote is not None]
    weights = weighed(rule, [sequences[index] for index in voters])
    winner = vote_winner([votes[index] for index in voters], weights)
    return -1 if winner is None else winner


def weighed(rule: Rule, sequences: list[RecordedSample]) -> list[float]:
    if rule.weights is None:
        return by_count(sequences)
    if rule.weights.kind == "probability":
        return by_probability(sequences)
    return by_confidence(rule.weights.kind, rule.weights.window)(sequences)


def ends(cutting: Cutting, sequences: list[RecordedSample]) -> Iterator[tuple[int, bool]]:
    """Tokens of each sequence, and whether it is below the floor of the first ones."""
    floor = cutting.floor([cutting.lowest(s.confidences) for s in sequences])
    for index, sequence in enumerate(sequences):
        values = sequence.confidences
        prefixes = (n for n in range(1, len(values) + 1) if cutting.is_cut(values[:n], floor))
        length = next(prefixes, None)
        is_warmup = index < cutting.num_warmups
        yield len(values) if is_warmup or length is None else length, length is not None


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(6))
def test_the_winner_and_the_cost_of_whole_samples(seed: int, weights: str) -> None:
    draws = draws_of(seed)
    rule = rule_of(f"beta:0.7{weights}")
    played = play(rule, draws)
    for row in range(NUM_ORDERS):
        sequences = sequences_of(draws, row)
        votes = [None if vote < 0 else int(vote) for vote in draws.votes[row]]
        numbers = range(len(votes) + 1)
        stop = next((n for n in numbers if rule.start(votes[:n])), len(votes))  # type: ignore[operator]
        assert played.num_votes[row] == played.num_started[row] == stop
        assert played.tokens[row] == sum(len(s.token_ids) for s in sequences[:stop])
        assert played.winners[row] == winner_of(rule, sequences[:stop], votes[:stop])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("cut", ["cut:0.5:3:4", "cut:0.9:2:3", "cut:0.1:3:2"])
@pytest.mark.parametrize("seed", range(4))
def test_cut_samples_cost_their_tokens_up_to_the_cut_and_do_not_vote(
    seed: int, cut: str, weights: str
) -> None:
    draws, rule = draws_of(seed), rule_of(cut + weights)
    assert rule.cutting is not None
    played = play(rule, draws)
    for row in range(NUM_ORDERS):
        sequences = sequences_of(draws, row)
        ended = list(ends(rule.cutting, sequences))
        assert played.tokens[row] == sum(length for length, _ in ended)
        kept = [index for index, (_, is_below) in enumerate(ended) if not is_below]
        votes = [None if draws.votes[row, i] < 0 else int(draws.votes[row, i]) for i in kept]
        assert played.winners[row] == winner_of(rule, [sequences[i] for i in kept], votes)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(3))
def test_as_many_weights_are_missing_as_by_the_rule(seed: int, weights: str) -> None:
    draws, rule = draws_of(seed), rule_of(f"share:0.7:3{weights}")
    missing = missing_of(rule, draws, cuts_of(rule, draws, None))
    for row in range(NUM_ORDERS):
        sequences = sequences_of(draws, row)
        votes = [None if vote < 0 else int(vote) for vote in draws.votes[row]]
        for number in range(len(votes) + 1):
            given = votes[:number]
            weighed_votes = weights_of(
                sequences[:number], given, lambda voters: weighed(rule, list(voters))
            )
            limit = len(votes) - number
            expected = num_missing(ConsensusShare(0.7, 3), given, limit, weighed_votes)
            assert missing[row, number] == expected


def test_a_calibrated_floor_has_no_warmups() -> None:
    others = [random_samples(seed) for seed in (8, 9)]
    cutting = Cutting(window=3, keep=0.5)
    floor = calibrated_floor(others, cutting)
    lowest = [*others[0].lowest(3), *others[1].lowest(3)]
    assert floor == top_share_floor(lowest, 0.5)
    draws, rule = draws_of(1), rule_of("cut:0.5:3:calibrated")
    played = play(rule, draws, floor)
    fixed = Cutting(window=3, fixed=floor)
    for row in range(NUM_ORDERS):
        ended = list(ends(fixed, sequences_of(draws, row)))
        assert played.tokens[row] == sum(length for length, _ in ended)


@pytest.mark.parametrize("seed", range(4))
def test_a_filter_keeps_the_share_that_it_states(seed: int) -> None:
    draws = draws_of(seed)
    played = play(rule_of("filter:0.5:3"), draws)
    for row in range(NUM_ORDERS):
        sequences = sequences_of(draws, row)
        lowest = draws.samples.lowest(3)[draws.order[row]]
        floor = top_share_floor(lowest.tolist(), 0.5)
        votes = [
            None if vote < 0 or low < floor else int(vote)
            for vote, low in zip(draws.votes[row], lowest, strict=True)
        ]
        winner = vote_winner(votes)
        assert played.winners[row] == (-1 if winner is None else winner)
        assert played.tokens[row] == sum(len(s.token_ids) for s in sequences)


@pytest.mark.parametrize("cut", ["", "+cut:0.5:3:4"])
@pytest.mark.parametrize("seed", range(6))
def test_shared_prefixes_cost_the_tokens_of_the_trie(seed: int, cut: str) -> None:
    draws = draws_of(seed)
    alone, shared = (play(rule_of(f"beta:0.8{cut}{trie}"), draws) for trie in ("", "+trie"))
    assert (alone.winners == shared.winners).all()
    assert (shared.tokens <= alone.tokens).all()
    cutting = rule_of(f"beta:0.8{cut}").cutting
    for row in range(NUM_ORDERS):
        sequences = sequences_of(draws, row)
        lengths = [len(s.token_ids) for s in sequences]
        if cutting is not None:
            lengths = [length for length, _ in ends(cutting, sequences)]
        paths = {
            s.token_ids[:end]
            for s, length in list(zip(sequences, lengths, strict=True))[: shared.num_votes[row]]
            for end in range(1, length + 1)
        }
        assert shared.tokens[row] == len(paths)


@pytest.mark.parametrize("seed", range(6))
def test_the_uncertainty_of_a_vote_is_the_one_that_prompts_bid(seed: int) -> None:
    draws = draws_of(seed)
    for size in (1, 2, 5, 10):
        voters = np.broadcast_to(np.arange(10) < size, draws.order.shape)
        values = uncertainties(draws, voters)
        for row in range(NUM_ORDERS):
            classes = [None if vote < 0 else int(vote) for vote in draws.votes[row, :size]]
            expected = vote_uncertainty(sequences_of(draws, row)[:size], classes)
            assert values[row] == pytest.approx(expected, abs=1e-12)


def test_samples_that_run_ahead_cost_what_they_have_decoded() -> None:
    """Two votes decide; two more samples run, and a third starts when the first ends."""
    missing = np.array([[2, 1, 0, 0, 0, 0]])
    lengths = np.array([[3, 10, 4, 20, 9]])
    course = timed(missing, lengths, to_start=missing + 2)
    assert course.num_votes.tolist() == [2]
    assert course.steps.tolist() == [10]
    # The rule needs no more samples after the first vote than before.
    assert course.tokens.tolist() == [[3, 10, 4, 10, 0]]
    alone = timed(missing, lengths)
    assert alone.tokens.tolist() == [[3, 10, 0, 0, 0]]


@pytest.mark.parametrize("text", ["beta:0.7", "mode:0.5", "share:0.7:3"])
@pytest.mark.parametrize("seed", range(3))
def test_samples_that_run_ahead_change_the_cost_alone(seed: int, text: str) -> None:
    draws = draws_of(seed)
    courses = [play(rule_of(f"{text}+ahead:{ahead}"), draws) for ahead in ("0", "1", "2", "9")]
    for course in courses:
        assert course.winners.tolist() == courses[0].winners.tolist()
        assert course.num_votes.tolist() == courses[0].num_votes.tolist()
    for former, latter in pairwise(courses):
        assert latter.steps.mean() <= former.steps.mean()
    assert courses[-1].steps.mean() < courses[0].steps.mean()
    assert all((course.num_started >= course.num_votes).all() for course in courses)
    assert play(rule_of(text), draws).tokens.tolist() == courses[0].tokens.tolist()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("start", ["share:0.7:3", "beta:0.8"])
@pytest.mark.parametrize("ahead", [0.5, 1.0, 2.0])
def test_as_many_samples_start_as_by_the_rule(start: str, weights: str, ahead: float) -> None:
    draws, rule = draws_of(3), rule_of(f"{start}{weights}+ahead:{ahead}")
    missing = missing_of(rule, draws, cuts_of(rule, draws, None))
    to_start = to_start_of(rule, draws, cuts_of(rule, draws, None), missing)
    for row, number in product(range(NUM_ORDERS), range(11)):
        sequences = sequences_of(draws, row)[:number]
        votes = [None if vote < 0 else int(vote) for vote in draws.votes[row, :number]]
        known = weights_of(sequences, votes, lambda voting: weighed(rule, [*voting]))
        live = cast(VoteRule, ByCounts(BetaRule(0.8)) if start == "beta:0.8" else rule.start)
        expected = num_to_start(live, votes, int(missing[row, number]), ahead, known)
        assert to_start[row, number] == expected


def test_warmups_end_before_others_start() -> None:
    missing = np.array([[4, 3, 2, 1, 0]])
    course = timed(missing, np.array([[3, 5, 2, 4]]), num_warmups=2)
    assert course.steps.tolist() == [9]
    assert course.tokens.tolist() == [[3, 5, 2, 4]]


def test_full_parallel_is_as_slow_as_its_longest_sample() -> None:
    draws = in_their_order(random_samples(3))
    played = play(rule_of("parallel"), draws)
    assert played.steps.tolist() == [draws.lengths.max()]
    assert played.tokens.tolist() == [draws.lengths.sum()]
