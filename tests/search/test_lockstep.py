"""Best-first search in ticks: it fills its slots from what runs, and depends on tokens alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eager_sgl import BestFirst, SamplingConfig, SearchConfig
from eager_sgl.core import TokenCounts
from eager_sgl.generate.executor import builder
from eager_sgl.methods import Method
from eager_sgl.schedule import Decision
from eager_sgl.search import best_first
from eager_sgl.search.best_first import BestFirstSchedule
from eager_sgl.search.frontier import candidates
from eager_sgl.search.lockstep import Lockstep
from eager_sgl.search.priorities import PRIORITIES
from eager_sgl.tree import Segment, TokenTree
from tests.fakes import trees
from tests.fakes.decoding import DecodingServer, endless
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.per_token import Tree, tree_of
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.trees import drawn, random_tree

TICK, MAX_NEW, WIDTH, M = 3, 30, 4, 14
CONFIG = SearchConfig(
    max_sequences=M,
    width=WIDTH,
    top_k=VOCABULARY,
    reasoning_end=None,
    sampling=SamplingConfig(temperature=0.8, max_new_tokens=MAX_NEW),
)


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_first, "MIN_TICK", TICK)
    monkeypatch.setattr(builder, "AWAITED_INTERVAL", TICK)
    monkeypatch.setattr(trees, "DISTRIBUTION", lasting)


def lasting(path: tuple[int, ...]) -> tuple[float, ...]:
    """Mixed steps, of which few end a sequence."""
    _, *others = mixed_distribution(3)(path)
    return (0.03, *(0.97 * p / sum(others) for p in others))


def empty_tree() -> TokenTree:
    return TokenTree(
        (9,), max_new_tokens=MAX_NEW, policy=BestFirst(CONFIG).policy(), is_stop=lambda t: t == 0
    )


def feed(tree: TokenTree, segment: Segment, num_tokens: int) -> None:
    """Draw up to some tokens of a segment, which do not depend on how they are cut into parts."""
    for _ in range(num_tokens):
        if segment.finish_reason is None:
            path = tuple(segment.path())
            tree.append(segment, drawn(path, 1, hash(path)), 1)


Feeding = Callable[[TokenTree, tuple[Segment, ...]], None]


def all_of_it(tree: TokenTree, alive: tuple[Segment, ...]) -> None:
    for segment in alive:
        feed(tree, segment, MAX_NEW)


def in_random_parts(seed: int) -> Feeding:
    rng = random.Random(seed)

    def advance(tree: TokenTree, alive: tuple[Segment, ...]) -> None:
        for segment in rng.sample(alive, rng.randint(1, len(alive))):
            feed(tree, segment, rng.choice([1, 2, 5, MAX_NEW]))

    return advance


def evenly(tree: TokenTree, alive: tuple[Segment, ...]) -> None:
    for segment in alive:
        feed(tree, segment, 1)


def grown(advance: Feeding, priority: Any = BestFirst.priority) -> TokenTree:
    tree = empty_tree()
    schedule = BestFirst(CONFIG, priority=priority).schedule(tree, M, lambda leaves: [])
    while alive := schedule.replay(tree).free:
        advance(tree, alive)
    return tree


def opened(tree: TokenTree) -> list[tuple[int | None, int, tuple[int, ...]]]:
    return [
        (None if s.parent is None else s.parent.index, s.start, tuple(s.token_ids))
        for s in tree.segments
    ]


@pytest.mark.parametrize("priority", sorted(PRIORITIES))
def test_the_tree_does_not_depend_on_when_tokens_arrive(priority: str) -> None:
    expected = opened(grown(evenly, priority))
    assert len(expected) == M
    ways = [all_of_it, *(in_random_parts(seed) for seed in range(4))]
    assert all(opened(grown(way, priority)) == expected for way in ways)


def test_sequences_open_on_running_ones_up_to_the_width() -> None:
    numbers: list[int] = []

    def advance(tree: TokenTree, alive: tuple[Segment, ...]) -> None:
        numbers.append(len(alive))
        evenly(tree, alive)

    tree = grown(advance)
    assert max(numbers) == WIDTH
    first = next(step for step, number in enumerate(numbers) if number > 1)
    assert first % TICK == 0
    assert first < len(tree.segments[0].token_ids)


def test_a_tick_opens_the_best_of_what_is_known_then(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[float], list[float]]] = []
    open_best = BestFirstSchedule._open_best

    def noted(self: BestFirstSchedule, tree: TokenTree, known: TokenTree, max_new: int) -> int:
        values = np.sort(self.priority(candidates(known, self.priority.reshaping)))[::-1]
        number = open_best(self, tree, known, max_new)
        added = [leaf.branch.priority for leaf in self.leaves[-number:] if leaf.branch]
        seen.append((values[:number].tolist(), [float(v) for v in added if v is not None]))
        return number

    monkeypatch.setattr(BestFirstSchedule, "_open_best", noted)
    grown(all_of_it)
    assert sum(len(best) for best, _ in seen) == M - 1
    assert all(best == taken for best, taken in seen)


@pytest.mark.parametrize("seed", range(6))
def test_at_the_end_of_time_a_tree_is_whole(seed: int) -> None:
    tree, clock = random_tree(seed), Lockstep()
    clock.add_new(tree)
    clock.now = 1000
    assert clock.has_arrived(tree, 1000)
    assert clock.num_running(tree) == 0
    ours, theirs = candidates(clock.tree_now(tree)), candidates(tree)
    for name in ("segments", "positions", "ranks", "joint_logprobs", "remaining"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_moment_has_no_token_that_is_still_to_come() -> None:
    tree, clock = empty_tree(), Lockstep()
    root = tree.open_root()
    feed(tree, root, 12)
    clock.add_new(tree)
    for clock.now in range(len(root.token_ids) + 1):
        (seen,) = clock.tree_now(tree).segments
        assert (len(seen.token_ids), seen.finish_reason) == (clock.now, None)
        assert all(clock.tree_now(tree).segments[0].end > p for p in candidates_of(clock, tree))
    assert not clock.has_arrived(tree, clock.now + 1) or root.finish_reason


def candidates_of(clock: Lockstep, tree: TokenTree) -> list[int]:
    return list(map(int, candidates(clock.tree_now(tree)).positions))


def tree_on(order: int, method: Method, **options: Any) -> Tree:
    server = ScriptedServer(endless(2), honours_seed=True, **options)
    server._order = random.Random(order)
    return tree_of(run_method(method, endpoint_of(server)))


@pytest.mark.parametrize("allows_gate", [False, True])
def test_a_seed_gives_one_tree_in_any_order_of_answers(
    allows_gate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "MIN_OBSERVED_PART", 5)
    method = BestFirst(CONFIG, seed=1)
    trees = {tree_on(order, method, allows_gate=allows_gate) for order in range(5)}
    assert len(trees) == 1
    assert trees == {tree_on(9, method, allows_gate=not allows_gate)}


def test_branches_of_running_requests_begin_before_these_end() -> None:
    """Where the first sequence takes 200 steps, not all others wait for its end."""
    config = SearchConfig(
        max_sequences=6,
        top_k=VOCABULARY,
        reasoning_end=None,
        sampling=SamplingConfig(temperature=1.0, max_new_tokens=200),
    )
    server = DecodingServer(allows_gate=True)
    most = 0

    def observe(decision: Decision, counts: TokenCounts) -> None:
        nonlocal most
        most = max(most, len(server.running))

    result = run_method(BestFirst(config), endpoint_of(server), observers=[observe])
    assert len(result.sequences) == 6
    assert most == 6


@pytest.mark.parametrize("asked", [{"stop": lambda tree, _: False}, {"max_tokens": 10**6}])
def test_a_search_that_is_asked_before_rounds_has_rounds(asked: dict[str, Any]) -> None:
    """Nothing depends on tokens that are still arriving, so that none of them is streamed."""
    config = SearchConfig(**vars(CONFIG) | {k: v for k, v in asked.items() if k == "max_tokens"})
    server = ScriptedServer(mixed_distribution(2), allows_gate=True)
    endpoint = endpoint_of(server)
    server.restart(0)
    result = run_method(BestFirst(config, stop=asked.get("stop")), endpoint)
    assert len(result.sequences) > WIDTH
    assert not any(request.get("stream") for request in server.requests)
