"""Tokens that searches share: the best bid first, nothing beyond what rounds cost unexpectedly."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eager_sgl import (
    BestEntry,
    BestFirst,
    EagerConfig,
    EagerInit,
    SamplingConfig,
    SearchConfig,
    TokenLedger,
    generate,
)
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.search.priorities import find_priority
from programs.together import answer_together
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.searches import search_of

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
HANGS = 60


def nothing(tree, sequences):
    """A rule for searches that are not run, or that nobody bids against."""
    return 0.0


def test_nothing_is_granted_before_all_have_bid_or_left():
    ledger = TokenLedger(100, max_running=3)
    one, other, third = (ledger.join(nothing) for _ in range(3))
    bids = [one.offer(10, value=1.0, expected=5), other.offer(10, value=2.0, expected=5)]
    assert not any(bid.done() for bid in bids)
    third.leave(20)
    assert [bid.result(0) for bid in bids] == [True, True]
    assert (ledger.spent, ledger.reserved) == (40, 10)


def test_the_best_bid_goes_first_and_of_equal_ones_the_first_to_join():
    ledger = TokenLedger(1000)
    bidders = [ledger.join(nothing) for _ in range(4)]
    values, bids, order = (1.0, 3.0, 3.0, 2.0), {}, []
    for place in (3, 2, 1, 0):
        bids[place] = bidders[place].offer(0, values[place], expected=5)
    while len(order) < 4:
        (granted,) = [place for place, bid in bids.items() if bid.done() and place not in order]
        order.append(granted)
        bidders[granted].leave(5)
    assert order == [1, 2, 3, 0]


def test_a_search_that_fails_is_charged_its_share():
    ledger = TokenLedger(100)
    failed, other = ledger.join(nothing, share=60), ledger.join(nothing, share=60)
    bid = other.offer(20, value=1.0, expected=30)
    with pytest.raises(RuntimeError), failed, failed:
        raise RuntimeError
    assert (ledger.spent, failed.spent) == (80, 60)
    assert not bid.result(0), "what is left is for the one that failed"
    with other:
        other.leave(20)
    assert ledger.spent == 80


def test_a_round_is_charged_with_what_it_cost():
    ledger = TokenLedger(100)
    with ledger.join(nothing) as bidder:
        assert bidder.ask(30, value=0.0, expected=70)
        assert (ledger.spent, ledger.reserved) == (30, 70)
        assert bidder.ask(40, value=0.0, expected=60), "the first round has cost 10"
        assert not bidder.ask(120, value=0.0, expected=1)
    assert (ledger.spent, ledger.reserved) == (120, 0)


def test_what_does_not_fit_waits_for_what_runs():
    ledger = TokenLedger(100, max_running=2)
    one, other = ledger.join(nothing), ledger.join(nothing)
    running = one.offer(0, value=2.0, expected=60)
    waiting = other.offer(0, value=1.0, expected=50)
    assert running.result(0)
    assert not waiting.done()
    one.leave(40)
    assert waiting.result(0)


def test_the_next_best_is_tried_where_the_best_does_not_fit():
    ledger = TokenLedger(10)
    one, other = ledger.join(nothing), ledger.join(nothing)
    large = one.offer(0, value=2.0, expected=11)
    small = other.offer(0, value=1.0, expected=10)
    assert (large.result(0), small.result(0)) == (False, True)


def test_a_closed_ledger_lets_nobody_wait():
    ledger = TokenLedger(100)
    one, other, _ = (ledger.join(nothing) for _ in range(3))
    waiting = one.offer(0, value=1.0, expected=5)
    ledger.close()
    assert not waiting.result(0)
    assert not other.ask(0, value=1.0, expected=5)


def test_a_search_that_fails_keeps_nobody_waiting():
    ledger = TokenLedger(100)
    failing, other = ledger.join(nothing), ledger.join(nothing)
    waiting = other.offer(3, value=1.0, expected=5)
    with pytest.raises(RuntimeError), failing:
        raise RuntimeError
    assert waiting.result(0)


@pytest.mark.parametrize("prompt", [(9,), ()])
def test_a_program_that_fails_keeps_nobody_waiting(prompt):
    """While it runs, and where it is refused before it begins."""
    ledger = TokenLedger(100)
    failing, other = ledger.join(nothing), ledger.join(nothing)
    waiting = other.offer(3, value=1.0, expected=5)

    def raises(tree, sequences):
        raise RuntimeError("no rule")

    config = SearchConfig(sampling=SAMPLING, top_k=VOCABULARY)
    endpoint = TokenEndpoint(ScriptedServer(mixed_distribution(0)))
    method = BestFirst(config, stop=raises, bidder=failing)
    with pytest.raises(Exception, match="no rule|the prompt is empty"):
        generate.run(prompt=prompt, method=method, backend=endpoint)
    assert waiting.result(0)


@pytest.mark.parametrize(("fields", "said"), [((0, 1), "total is 0"), ((5, 0), "running is 0")])
def test_wrong_arguments_are_named(fields, said):
    total, max_running = fields
    with pytest.raises(ValueError, match=said):
        TokenLedger(total, max_running=max_running)


class BidsMachine(RuleBasedStateMachine):
    """Searches bid, run and leave in any order, and rounds cost more or less than expected."""

    @initialize(
        total=st.integers(1, 200),
        max_running=st.integers(1, 3),
        spent=st.integers(0, 50),
        number=st.integers(1, 6),
    )
    def begin(self, total, max_running, spent, number):
        self.ledger = TokenLedger(total, max_running=max_running, spent=spent)
        self.max_running = max_running
        self.true_spent, self.excess = spent, spent
        self.silent = [self.ledger.join(nothing) for _ in range(number)]
        self.waiting, self.running = {}, {}

    def look(self):
        """Follow what was decided, and that it was decided rightly."""
        decided = {b: bid for b, bid in self.waiting.items() if bid[2].done()}
        for bidder in decided:
            del self.waiting[bidder]
        for bidder, (value, expected, outcome) in decided.items():
            if not outcome.result():
                assert expected > self.ledger.total - self.true_spent
                continue
            assert all(value >= other for other, _, _ in self.waiting.values()), "the best first"
            self.running[bidder] = expected
            reserved = sum(self.running.values())
            assert self.true_spent + reserved <= self.ledger.total, "granted beyond the total"
        assert not (decided and self.silent), "decided before all had bid"

    def settle(self, bidder, cost, bid):
        expected = self.running.pop(bidder, None)
        self.true_spent += cost
        # First sequences are not bid for, rounds are charged as expected.
        self.excess += cost if expected is None else max(0, cost - expected)
        if bid is None:
            bidder.leave(bidder.spent + cost)
        else:
            self.waiting[bidder] = (*bid, bidder.offer(bidder.spent + cost, *bid))
        self.look()

    bids = st.none() | st.tuples(st.integers(-3, 3).map(float), st.integers(1, 60))

    @rule()
    def join(self):
        self.silent.append(self.ledger.join(nothing))

    @precondition(lambda self: self.silent)
    @rule(data=st.data(), cost=st.integers(0, 30), bid=bids)
    def first_sequence(self, data, cost, bid):
        bidder = data.draw(st.sampled_from(self.silent))
        self.silent.remove(bidder)
        self.settle(bidder, cost, bid)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cost=st.integers(0, 80), bid=bids)
    def end_round(self, data, cost, bid):
        bidders = sorted(self.running, key=lambda b: b.place)
        self.settle(data.draw(st.sampled_from(bidders)), cost, bid)

    @invariant()
    def everything_adds_up(self):
        if not hasattr(self, "ledger"):
            return
        assert self.ledger.spent == self.true_spent
        assert self.ledger.reserved == sum(self.running.values())
        assert len(self.running) <= self.max_running
        assert self.true_spent <= self.ledger.total + self.excess

    @invariant()
    def nobody_waits_for_nothing(self):
        if hasattr(self, "ledger") and self.waiting:
            assert self.silent or self.running

    def teardown(self):
        """Once all that runs has ended, everybody has an answer."""
        while getattr(self, "silent", None):
            self.settle(self.silent.pop(), 1, None)
        while getattr(self, "running", None):
            self.settle(next(iter(self.running)), 1, None)
        assert not getattr(self, "waiting", None)


BidsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBids = BidsMachine.TestCase


@pytest.mark.parametrize("max_running", [1, 4])
def test_many_threads_all_come_to_an_end(max_running):
    ledger, num_searches = TokenLedger(4000, max_running=max_running), 24
    bidders = [ledger.join(nothing) for _ in range(num_searches)]

    def run(bidder):
        generator, spent = random.Random(bidder.place), 20
        with bidder:
            for _ in range(generator.randrange(60)):
                if not bidder.ask(spent, generator.gauss(0, 1), expected=10):
                    break
                spent += generator.randint(5, 15)
            bidder.leave(spent)
        return spent

    with ThreadPoolExecutor(num_searches) as pool:
        spent = sum(pool.map(run, bidders, timeout=HANGS))
    assert (ledger.spent, ledger.reserved) == (spent, 0)
    assert 3900 < spent <= 4000 + 5 * max_running


def run_together(total, models=range(6), **arguments):
    """Searches on different models that share their tokens; their results."""
    ledger = TokenLedger(total)
    fields = {"max_sequences": 40, "width": 1, "top_k": VOCABULARY}
    config = SearchConfig(**fields | arguments, sampling=SAMPLING, reasoning_end=None)
    bidders = [ledger.join(BestEntry(find_priority("joint_cost"))) for _ in models]

    def run(model, bidder):
        endpoint = TokenEndpoint(ScriptedServer(mixed_distribution(model)))
        method = BestFirst(config, priority="joint_cost", bidder=bidder)
        return generate.run(prompt=(9,), method=method, backend=endpoint).ret_value

    with ThreadPoolExecutor(len(models)) as pool:
        results = list(pool.map(run, models, bidders, timeout=HANGS))
    assert ledger.spent == sum(result.counts.generated for result in results)
    return results


def test_searches_open_the_best_entries_of_all_their_trees():
    """As if all prompts were one tree: who bids highest goes on until all is spent."""
    total = 60
    shared, alone = run_together(total), run_together(10_000)
    assert total - 4 <= sum(result.counts.generated for result in shared) <= total + 4
    sizes = [len(result.sequences) for result in shared]
    waiting = [list(result.sequences) for result in alone]
    spent, least = sum(len(sequences.pop(0).token_ids) for sequences in waiting), [1] * len(alone)
    while spent <= total - 4:  # until then a sequence of four tokens fits
        best = max(
            (place for place, sequences in enumerate(waiting) if sequences),
            key=lambda place: (waiting[place][0].branch.priority, -place),
        )
        opened = waiting[best].pop(0)
        spent += len(opened.token_ids) - opened.branch.position - 1
        least[best] += 1
    assert all(one >= other for one, other in zip(sizes, least, strict=True)), (sizes, least)
    assert len(set(sizes)) > 1, "some prompts are worth more than others"


class Noting(nullcontext):
    """Grants every bid."""

    def __init__(self):
        super().__init__()
        self.bids = []

    def utility(self, tree, sequences):
        assert all(sequence.finish_reason for sequence in sequences), "all have been drawn"
        return float(len(sequences))

    def ask(self, spent, value, expected):
        self.bids.append((spent, value, expected))
        return True

    def leave(self, spent):
        self.bids.append(spent)


@pytest.mark.parametrize("order", ["best_first", "swor", "trie_parallel"])
@pytest.mark.parametrize("width", [1, 3])
def test_a_search_bids_its_worth_and_what_its_round_will_cost(order, width):
    """Sequences of a model that never ends them are four tokens long."""
    bidder = Noting()
    endpoint = TokenEndpoint(ScriptedServer(lambda path: (1e-9, 0.4, 0.3, 0.2, 0.1 - 1e-9)))
    method = search_of(
        order,
        priority="probability",
        bidder=bidder,
        max_sequences=10,
        width=width,
        top_k=VOCABULARY,
        sampling=SAMPLING,
        reasoning_end=None,
    )
    state = generate.run(prompt=(9,), method=method, backend=endpoint)
    result = state.ret_value
    spent, drawn = 4, 1
    for bid in bidder.bids[:-1]:
        room = min(width, drawn, 10 - drawn)
        assert bid == (spent, float(drawn), pytest.approx(spent / drawn * room))
        opened = result.sequences[drawn : drawn + room]
        drawn += room
        spent += sum(len(s.token_ids) - s.branch.position - 1 for s in opened if s.branch)
    assert drawn == 10
    assert bidder.bids[-1] == spent == result.counts.generated


def test_a_rule_that_fails_keeps_nobody_waiting():
    ledger = TokenLedger(100)

    def raises(tree, sequences):
        raise RuntimeError("no worth")

    failing, other = ledger.join(raises), ledger.join(nothing)
    waiting = other.offer(3, value=1.0, expected=5)
    endpoint = TokenEndpoint(ScriptedServer(mixed_distribution(0)))
    config = SearchConfig(sampling=SAMPLING, top_k=VOCABULARY)
    method = BestFirst(config, bidder=failing)
    with pytest.raises(RuntimeError, match="no worth"):
        generate.run(prompt=(9,), method=method, backend=endpoint)
    assert waiting.result(0)


def test_a_prompt_that_is_refused_keeps_nobody_waiting():
    ledger = TokenLedger(100)
    failing, other = ledger.join(nothing), ledger.join(nothing)
    waiting = other.offer(3, value=1.0, expected=5)
    endpoint = TokenEndpoint(ScriptedServer(mixed_distribution(0)))
    method = BestFirst(SearchConfig(), bidder=failing)
    with pytest.raises(ValueError, match="empty"):
        generate.run(prompt=(), method=method, backend=endpoint)
    assert waiting.result(0)


def test_prompts_that_are_answered_together_share_and_a_failed_one_is_told():
    endpoint = TokenEndpoint(ScriptedServer(mixed_distribution(3)))
    search = search_of(
        "trie_parallel", max_sequences=20, top_k=VOCABULARY, sampling=SAMPLING, width=2
    )
    prompts = [(9,), (9, 9), (9, 9, 9)]
    results = answer_together(prompts, search, hash, 8, endpoint)
    assert [result.prompt_ids for result in results] == prompts
    spent = [result.counts.generated for result in results]
    assert 24 - 8 <= sum(spent) <= 24 + 8
    with pytest.raises(ValueError, match="empty"):
        answer_together([(9,), (), (9, 9)], search, hash, 20, endpoint)


def test_eager_init_cannot_bid():
    bidder = TokenLedger(10).join(nothing)
    with pytest.raises(TypeError, match="bidder"):
        EagerInit(EagerConfig(threshold=1.0), bidder=bidder)
