"""Searches that share tokens: the best bid first, the total exceeded by unexpected costs alone."""

from __future__ import annotations

import random
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eager_sgl import (
    BestEntry,
    BestFirst,
    Bidder,
    Client,
    EagerConfig,
    EagerInit,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    Sequence,
    TokenLedger,
)
from eager_sgl.search.priorities import find_priority
from eager_sgl.tree import TokenTree
from programs.shared_budget import answer_together
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.http_server import scripted_sglang
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.searches import search_of

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
HANGS = 60


def constant(tree: TokenTree, sequences: Items[Sequence]) -> float:
    """A utility for searches that do not run, or have no competitor."""
    return 0.0


def test_nothing_is_granted_before_all_have_bid_or_left() -> None:
    ledger = TokenLedger(100, max_running=3)
    first, second, third = (ledger.join(constant) for _ in range(3))
    bids = [first.offer(10, value=1.0, expected=5), second.offer(10, value=2.0, expected=5)]
    assert not any(bid.done() for bid in bids)
    third.leave(20)
    assert [bid.result(0) for bid in bids] == [True, True]
    assert (ledger.spent, ledger.reserved) == (40, 10)


def test_the_best_bid_is_granted_first_and_ties_go_to_the_first_to_join() -> None:
    ledger = TokenLedger(1000)
    bidders = [ledger.join(constant) for _ in range(4)]
    values, order = (1.0, 3.0, 3.0, 2.0), list[int]()
    bids = {index: bidders[index].offer(0, values[index], expected=5) for index in (3, 2, 1, 0)}
    while len(order) < 4:
        (granted,) = [index for index, bid in bids.items() if bid.done() and index not in order]
        order.append(granted)
        bidders[granted].leave(5)
    assert order == [1, 2, 3, 0]


def test_a_search_that_fails_is_charged_its_share() -> None:
    ledger = TokenLedger(100)
    failed, second = ledger.join(constant, share=60), ledger.join(constant, share=60)
    bid = second.offer(20, value=1.0, expected=30)
    with pytest.raises(RuntimeError), failed, failed:
        raise RuntimeError
    assert (ledger.spent, failed.spent) == (80, 60)
    assert not bid.result(0), "the rest is left for the failed search"
    with second:
        second.leave(20)
    assert ledger.spent == 80


def test_a_round_is_charged_with_its_true_cost() -> None:
    ledger = TokenLedger(100)
    with ledger.join(constant) as bidder:
        assert bidder.offer(30, value=0.0, expected=70).result(HANGS)
        assert (ledger.spent, ledger.reserved) == (30, 70)
        assert bidder.offer(40, value=0.0, expected=60).result(HANGS), "the first round cost 10"
        assert not bidder.offer(120, value=0.0, expected=1).result(HANGS)
    assert (ledger.spent, ledger.reserved) == (120, 0)


def test_a_bid_that_does_not_fit_waits_for_running_rounds() -> None:
    ledger = TokenLedger(100, max_running=2)
    first, second = ledger.join(constant), ledger.join(constant)
    running = first.offer(0, value=2.0, expected=60)
    waiting = second.offer(0, value=1.0, expected=50)
    assert running.result(0)
    assert not waiting.done()
    first.leave(40)
    assert waiting.result(0)


def test_the_next_best_is_tried_where_the_best_does_not_fit() -> None:
    ledger = TokenLedger(10)
    first, second = ledger.join(constant), ledger.join(constant)
    large = first.offer(0, value=2.0, expected=11)
    small = second.offer(0, value=1.0, expected=10)
    assert (large.result(0), small.result(0)) == (False, True)


def test_a_closed_ledger_refuses_all_bids() -> None:
    ledger = TokenLedger(100)
    first, second, _ = (ledger.join(constant) for _ in range(3))
    waiting = first.offer(0, value=1.0, expected=5)
    ledger.close()
    assert not waiting.result(0)
    assert not second.offer(0, value=1.0, expected=5).result(HANGS)


def test_a_failed_search_keeps_no_other_waiting() -> None:
    ledger = TokenLedger(100)
    failing, second = ledger.join(constant), ledger.join(constant)
    waiting = second.offer(3, value=1.0, expected=5)
    with pytest.raises(RuntimeError), failing:
        raise RuntimeError
    assert waiting.result(0)


@pytest.mark.parametrize("prompt", [(9,), ()])
def test_a_failed_program_keeps_no_other_waiting(prompt: tuple[int, ...]) -> None:
    """Whether it fails while it runs, or is refused before it begins."""
    ledger = TokenLedger(100)
    failing, second = ledger.join(constant), ledger.join(constant)
    waiting = second.offer(3, value=1.0, expected=5)

    def raises(tree: TokenTree, sequences: Items[Sequence]) -> bool:
        raise RuntimeError("no rule")

    config = SearchConfig(sampling=SAMPLING, top_k=VOCABULARY)
    endpoint = endpoint_of(ScriptedServer(mixed_distribution(0)))
    method = BestFirst(config, stop=raises, bidder=failing)
    with pytest.raises(Exception, match="no rule|the prompt is empty"):
        run_method(method, endpoint, prompt)
    assert waiting.result(0)


@pytest.mark.parametrize(("fields", "said"), [((0, 1), "total is 0"), ((5, 0), "running is 0")])
def test_refused_arguments_are_named(fields: tuple[int, int], said: str) -> None:
    total, max_running = fields
    with pytest.raises(ValueError, match=said):
        TokenLedger(total, max_running=max_running)


class BidsMachine(RuleBasedStateMachine):
    """Searches bid, run and leave in any order, and rounds cost more or less than expected."""

    ledger: TokenLedger
    max_running: int
    true_spent: int
    excess: int
    yet_to_bid: list[Bidder]
    waiting: dict[Bidder, tuple[float, int, Future[bool]]]
    running: dict[Bidder, int]

    @initialize(
        total=st.integers(1, 200),
        max_running=st.integers(1, 3),
        spent=st.integers(0, 50),
        number=st.integers(1, 6),
    )
    def begin(self, total: int, max_running: int, spent: int, number: int) -> None:
        self.ledger = TokenLedger(total, max_running=max_running, spent=spent)
        self.max_running = max_running
        self.true_spent, self.excess = spent, spent
        self.yet_to_bid = [self.ledger.join(constant) for _ in range(number)]
        self.waiting, self.running = {}, {}

    def check_decisions(self) -> None:
        """Decided bids run or are refused, by the rules."""
        decided = {b: bid for b, bid in self.waiting.items() if bid[2].done()}
        for bidder in decided:
            del self.waiting[bidder]
        for bidder, (value, expected, outcome) in decided.items():
            if not outcome.result():
                assert expected > self.ledger.total - self.true_spent
                continue
            assert all(value >= second for second, _, _ in self.waiting.values()), "the best first"
            self.running[bidder] = expected
            reserved = sum(self.running.values())
            assert self.true_spent + reserved <= self.ledger.total, "granted beyond the total"
        assert not (decided and self.yet_to_bid), "decided before all had bid"

    def settle(self, bidder: Bidder, cost: int, bid: tuple[float, int] | None) -> None:
        expected = self.running.pop(bidder, None)
        self.true_spent += cost
        # First sequences are not bid for, rounds are charged as expected.
        self.excess += cost if expected is None else max(0, cost - expected)
        if bid is None:
            bidder.leave(bidder.spent + cost)
        else:
            self.waiting[bidder] = (*bid, bidder.offer(bidder.spent + cost, *bid))
        self.check_decisions()

    bids = st.none() | st.tuples(st.integers(-3, 3).map(float), st.integers(1, 60))

    @rule()
    def join(self) -> None:
        self.yet_to_bid.append(self.ledger.join(constant))

    @precondition(lambda self: self.yet_to_bid)
    @rule(data=st.data(), cost=st.integers(0, 30), bid=bids)
    def first_sequence(self, data: st.DataObject, cost: int, bid: tuple[float, int] | None) -> None:
        bidder = data.draw(st.sampled_from(self.yet_to_bid))
        self.yet_to_bid.remove(bidder)
        self.settle(bidder, cost, bid)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cost=st.integers(0, 80), bid=bids)
    def end_round(self, data: st.DataObject, cost: int, bid: tuple[float, int] | None) -> None:
        bidders = sorted(self.running, key=lambda b: b.order)
        self.settle(data.draw(st.sampled_from(bidders)), cost, bid)

    @invariant()
    def everything_adds_up(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert self.ledger.spent == self.true_spent
        assert self.ledger.reserved == sum(self.running.values())
        assert len(self.running) <= self.max_running
        assert self.true_spent <= self.ledger.total + self.excess

    @invariant()
    def a_bid_waits_only_for_other_searches(self) -> None:
        if hasattr(self, "ledger") and self.waiting:
            assert self.yet_to_bid or self.running

    def teardown(self) -> None:
        """Once all rounds have ended, every bid is decided."""
        while getattr(self, "yet_to_bid", None):
            self.settle(self.yet_to_bid.pop(), 1, None)
        while getattr(self, "running", None):
            self.settle(next(iter(self.running)), 1, None)
        assert not getattr(self, "waiting", None)


BidsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBids = BidsMachine.TestCase


@pytest.mark.parametrize("max_running", [1, 4])
def test_all_of_many_threads_finish(max_running: int) -> None:
    ledger, num_searches = TokenLedger(4000, max_running=max_running), 24
    bidders = [ledger.join(constant) for _ in range(num_searches)]

    def run(bidder: Bidder) -> int:
        generator, spent = random.Random(bidder.order), 20
        with bidder:
            for _ in range(generator.randrange(60)):
                if not bidder.offer(spent, generator.gauss(0, 1), expected=10).result(HANGS):
                    break
                spent += generator.randint(5, 15)
            bidder.leave(spent)
        return spent

    with ThreadPoolExecutor(num_searches) as pool:
        spent = sum(pool.map(run, bidders, timeout=HANGS))
    assert (ledger.spent, ledger.reserved) == (spent, 0)
    assert 3900 < spent <= 4000 + 5 * max_running


def run_together(total: int, models: Items[int] = range(6)) -> list[PromptResult]:
    """The results of searches on different models that share their tokens."""
    ledger = TokenLedger(total)
    config = SearchConfig(
        max_sequences=40,
        width=1,
        top_k=VOCABULARY,
        sampling=SAMPLING,
        reasoning_end=None,
    )
    bidders = [ledger.join(BestEntry(find_priority("joint_cost"))) for _ in models]

    def run(model: int, bidder: Bidder) -> PromptResult:
        endpoint = endpoint_of(ScriptedServer(mixed_distribution(model)))
        return run_method(BestFirst(config, priority="joint_cost", bidder=bidder), endpoint)

    with ThreadPoolExecutor(len(models)) as pool:
        results = list(pool.map(run, models, bidders, timeout=HANGS))
    assert ledger.spent == sum(result.counts.generated for result in results)
    return results


def priority_of(sequence: Sequence) -> float:
    assert sequence.branch is not None
    assert sequence.branch.priority is not None
    return sequence.branch.priority


def num_generated(sequence: Sequence) -> int:
    """Tokens decoded for a sequence alone; a repeated one cost none."""
    point = sequence.branch
    return 0 if point is None else len(sequence.token_ids) - point.position - 1


def test_searches_open_the_best_entries_of_all_their_trees() -> None:
    """As if all prompts were one tree: the highest bid gets a round until all is spent."""
    total = 60
    shared, alone = run_together(total), run_together(10_000)
    assert total - 4 <= sum(result.counts.generated for result in shared) <= total + 4
    sizes = [len(result.sequences) for result in shared]
    waiting = [list(result.sequences) for result in alone]
    spent = sum(len(sequences.pop(0).token_ids) for sequences in waiting)
    min_sizes = [1] * len(alone)
    while spent <= total - 4:  # until then a sequence of four tokens fits
        best = max(
            (index for index, sequences in enumerate(waiting) if sequences),
            key=lambda index: (priority_of(waiting[index][0]), -index),
        )
        opened = waiting[best].pop(0)
        spent += num_generated(opened)
        min_sizes[best] += 1
    assert all(np.array(sizes) >= min_sizes), (sizes, min_sizes)
    assert len(set(sizes)) > 1, "some prompts get more rounds than others"


class GrantingAll(nullcontext[None]):
    """A bidder that is granted every round, and records its bids."""

    def __init__(self) -> None:
        super().__init__()
        self.bids: list[tuple[int, float, float]] = []
        self.spent: list[int | None] = []

    def utility(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        assert all(sequence.finish_reason for sequence in sequences), "all have finished"
        return float(len(sequences))

    def offer(self, spent: int, value: float, expected: float) -> Future[bool]:
        self.bids.append((spent, value, expected))
        granted = Future[bool]()
        granted.set_result(True)
        return granted

    def leave(self, spent: int | None = None) -> None:
        self.spent.append(spent)


@pytest.mark.parametrize("order", ["best_first", "swor", "trie_parallel"])
@pytest.mark.parametrize("width", [1, 3])
def test_a_search_bids_its_utility_and_its_expected_cost(order: str, width: int) -> None:
    """Sequences of a model that never ends them are four tokens long.

    With this seed no sample waits for a sequence of the same round.
    """
    bidder = GrantingAll()
    endpoint = endpoint_of(ScriptedServer(lambda path: (1e-9, 0.4, 0.3, 0.2, 0.1 - 1e-9)))
    method = search_of(
        order,
        seed=2,
        priority="probability",
        bidder=bidder,
        max_sequences=10,
        width=width,
        top_k=VOCABULARY,
        sampling=SAMPLING,
        reasoning_end=None,
    )
    result = run_method(method, endpoint)
    spent, drawn = 4, 1
    for bid in bidder.bids:
        num_opened = min(width, drawn, 10 - drawn)
        assert bid[:2] == (spent, float(drawn))
        assert bid[2] == pytest.approx(spent / drawn * num_opened)
        opened = result.sequences[drawn : drawn + num_opened]
        drawn += num_opened
        spent += sum(map(num_generated, opened))
    assert drawn == 10
    assert bidder.spent == [spent] == [result.counts.generated]


def test_a_failed_utility_keeps_no_other_waiting() -> None:
    ledger = TokenLedger(100)

    def raises(tree: TokenTree, sequences: Items[Sequence]) -> float:
        raise RuntimeError("no utility")

    failing, second = ledger.join(raises), ledger.join(constant)
    waiting = second.offer(3, value=1.0, expected=5)
    endpoint = endpoint_of(ScriptedServer(mixed_distribution(0)))
    config = SearchConfig(sampling=SAMPLING, top_k=VOCABULARY)
    with pytest.raises(RuntimeError, match="no utility"):
        run_method(BestFirst(config, bidder=failing), endpoint)
    assert waiting.result(0)


def test_a_refused_prompt_keeps_no_other_waiting() -> None:
    ledger = TokenLedger(100)
    failing, second = ledger.join(constant), ledger.join(constant)
    waiting = second.offer(3, value=1.0, expected=5)
    endpoint = endpoint_of(ScriptedServer(mixed_distribution(0)))
    with pytest.raises(ValueError, match="empty"):
        run_method(BestFirst(SearchConfig(), bidder=failing), endpoint, prompt=())
    assert waiting.result(0)


def test_prompts_answered_together_share_tokens_and_report_a_failure() -> None:
    search = search_of(
        "trie_parallel", max_sequences=20, top_k=VOCABULARY, sampling=SAMPLING, width=2
    )
    prompts = [(9,), (9, 9), (9, 9, 9)]
    server = ScriptedServer(mixed_distribution(3))
    with scripted_sglang(server) as url, Client(url) as client:
        results = answer_together(prompts, search, hash, 8, client)
        with pytest.raises(ValueError, match="empty"):
            answer_together([(9,), (), (9, 9)], search, hash, 20, client)
    assert [result.prompt_ids for result in results] == prompts
    spent = [result.counts.generated for result in results]
    assert 24 - 8 <= sum(spent) <= 24 + 8


def test_eager_init_cannot_bid() -> None:
    arguments: dict[str, Any] = {"bidder": TokenLedger(10).join(constant)}
    with pytest.raises(TypeError, match="bidder"):
        EagerInit(EagerConfig(threshold=1.0), **arguments)
