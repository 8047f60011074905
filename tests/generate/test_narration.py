"""The events of a prompt lead, in order, to the paths of its leaves after every decision."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl import AdaptiveThreshold, BranchPoint, FullParallel, SamplingConfig, SearchConfig
from eager_sgl.adaptive_schedule import AdaptiveSchedule
from eager_sgl.core import FinishReason, Generation
from eager_sgl.generate.events import (
    Branched,
    Event,
    SequenceFinished,
    SequenceOpened,
    SequenceWithdrawn,
    TokensAppended,
    TokensWithdrawn,
)
from eager_sgl.generate.narration import Narrator
from eager_sgl.methods import BestFirst, Method, TrieParallel, WithoutReplacement
from eager_sgl.policy import EntropyThreshold
from eager_sgl.schedule import Leaf, OnlineSchedule, Schedule
from eager_sgl.tree import Segment, TokenTree
from tests.fakes.scripted import EOS, VOCABULARY
from tests.fakes.trees import drawn

SAMPLING = SamplingConfig(temperature=0.8, max_new_tokens=12)


SEEDS = st.integers(0, 1 << 30)


def point(position: int, sampled: int, token_ids: tuple[int, int] = (2, 3)) -> BranchPoint:
    return BranchPoint(position, 1.0, token_ids, (0.5, 0.5), (-0.7, -0.7), sampled)


@dataclass
class Table:
    """The sequences of a stream; an event that does not fit them fails."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, FinishReason] = field(default_factory=dict)
    branches: dict[int, tuple[int, BranchPoint]] = field(default_factory=dict)
    num_opened: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case SequenceOpened(sequence, parent, position):
                assert sequence == self.num_opened
                self.num_opened += 1
                shared = [] if parent is None else self.tokens[parent][:position]
                assert len(shared) == position
                self.tokens[sequence] = shared
            case Branched(sequence, child, point):
                assert child not in self.branches
                assert len(self.tokens[child]) == point.position
                self.branches[child] = sequence, point
            case TokensAppended(sequence, position, token_ids):
                assert token_ids
                assert sequence not in self.finished
                assert position == len(self.tokens[sequence])
                self.tokens[sequence] += token_ids
            case TokensWithdrawn(sequence, position):
                assert position < len(self.tokens[sequence])
                del self.tokens[sequence][position:]
                self.finished.pop(sequence, None)
            case SequenceWithdrawn(sequence):
                del self.tokens[sequence]
                self.finished.pop(sequence, None)
            case SequenceFinished(sequence, finish_reason):
                assert sequence not in self.finished
                self.finished[sequence] = finish_reason
            case _:
                raise AssertionError(f"{event} is not of a sequence")


class Watcher:
    """Checks the table against the leaves after every update."""

    def __init__(self) -> None:
        self.narrator = Narrator()
        self.table = Table()
        self.kinds: Counter[type] = Counter()

    def update(self, leaves: Items[Leaf]) -> list[Event]:
        events = self.narrator.update(leaves)
        for event in events:
            self.table.apply(event)
            self.kinds[type(event)] += 1
        self._compare(leaves)
        assert self.narrator.update(leaves) == []
        return events

    def _compare(self, leaves: Items[Leaf]) -> None:
        table, ids = self.table, self.narrator.sequence_ids(leaves)
        assert len(set(ids)) == len(leaves) == len(table.tokens)
        for sequence, leaf in zip(ids, leaves, strict=True):
            assert table.tokens[sequence] == leaf.segment.path()
            assert table.finished.get(sequence) == leaf.segment.finish_reason
            if leaf.branch is not None:
                assert table.branches[sequence][1] is leaf.branch


Append = Callable[[TokenTree, Segment, int, random.Random], None]
"""Appends so many tokens, or fewer and a stop token, to a segment."""


def watch(tree: TokenTree, schedule: Schedule, rng: random.Random, append: Append) -> Watcher:
    """Generate to the end; parts of random lengths arrive in random order."""
    watcher = Watcher()
    decision = schedule.replay(tree)
    watcher.update(decision.leaves)
    while decision.num_alive:
        running = [monitored.segment for monitored in decision.monitored] + list(decision.free)
        for segment in rng.sample(running, rng.randint(1, len(running))):
            append(tree, segment, min(rng.choice([1, 2, 8]), tree.remaining(segment)), rng)
        decision = schedule.replay(tree)
        watcher.update(decision.leaves)
    return watcher


def append_drawn(tree: TokenTree, segment: Segment, num_tokens: int, rng: random.Random) -> None:
    """Tokens of the scripted model, read by the tree's policy."""
    generation = drawn(tuple(segment.path()), num_tokens, seed=rng.randrange(1 << 30))
    tree.append(segment, generation, num_asked=num_tokens)


def append_random(tree: TokenTree, segment: Segment, num_tokens: int, rng: random.Random) -> None:
    """Random tokens; every other step may branch, to tokens that may be the sampled one."""
    start, stop = segment.end, rng.random() < 0.1
    token_ids = (*rng.choices(range(1, VOCABULARY), k=num_tokens - 1), EOS if stop else 1)
    tree.append(
        segment, Generation(token_ids, "stop" if stop else "length", 1, 0), num_asked=num_tokens
    )
    for position, sampled in enumerate(token_ids, start):
        if rng.random() < 0.5:
            first, second = rng.sample(range(VOCABULARY), 2)
            segment.branch_points.append(point(position, sampled, (first, second)))


def watch_online(seed: int, max_sequences: int, patience: int = 100) -> Watcher:
    tree = TokenTree([9], max_new_tokens=20, is_stop=lambda token: token == EOS)
    tree.open_root()
    schedule = OnlineSchedule(max_sequences, patience)
    return watch(tree, schedule, random.Random(seed), append_random)


@given(seed=SEEDS, max_sequences=st.integers(1, 9), patience=st.integers(0, 9))
def test_events_follow_the_replay_of_eager_init(
    seed: int, max_sequences: int, patience: int
) -> None:
    watch_online(seed, max_sequences, patience)


def test_replays_take_tokens_and_sequences_back() -> None:
    kinds = sum((watch_online(seed, 9).kinds for seed in range(40)), Counter[type]())
    assert kinds[TokensWithdrawn] > 40
    assert kinds[SequenceWithdrawn] > 40


@given(seed=SEEDS)
def test_events_follow_a_threshold_that_is_set_when_the_first_chain_has_ended(seed: int) -> None:
    tree = TokenTree(
        [9],
        max_new_tokens=SAMPLING.max_new_tokens,
        policy=EntropyThreshold(0.2),
        is_stop=lambda token: token == EOS,
    )
    tree.open_root()
    schedule = AdaptiveSchedule(OnlineSchedule(5, patience=100), AdaptiveThreshold(quantile=0.5))
    watch(tree, schedule, random.Random(seed), append_drawn)


SEARCH = SearchConfig(max_sequences=7, width=3, top_k=VOCABULARY, sampling=SAMPLING)
METHODS: list[Method] = [
    FullParallel(SAMPLING, 5),
    BestFirst(SEARCH),
    WithoutReplacement(SEARCH),
    TrieParallel(SEARCH),
    TrieParallel(replace(SEARCH, width=1)),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@settings(max_examples=30)
@given(seed=SEEDS)
def test_events_follow_every_method_and_nothing_is_withdrawn(method: Method, seed: int) -> None:
    tree = TokenTree(
        [9],
        max_new_tokens=SAMPLING.max_new_tokens,
        policy=method.policy(),
        is_stop=lambda token: token == EOS,
    )
    schedule = method.schedule(tree, method.max_sequences, read=lambda leaves: ())
    watcher = watch(tree, schedule, random.Random(seed), append_drawn)
    assert not watcher.kinds.keys() & {TokensWithdrawn, SequenceWithdrawn}
    assert watcher.table.num_opened == watcher.kinds[SequenceFinished]


# By hand


def root_of(tree: TokenTree, *token_ids: int) -> Segment:
    root = tree.open_root()
    tree.append(root, Generation(token_ids, "length", 1, 0), len(token_ids))
    return root


def test_a_sequence_that_branches_is_reported_before_and_after() -> None:
    """The token of the step is that of the child, which has the tokens that follow."""
    tree = TokenTree((9,), max_new_tokens=20)
    root = root_of(tree, 5, 3, 6, 7)
    taken = point(1, sampled=3)
    schedule, watcher = OnlineSchedule(2, 1000, 0.5), Watcher()
    assert watcher.update(schedule.replay(tree).leaves) == [
        SequenceOpened(0, None, 0),
        TokensAppended(0, 0, (5, 3, 6, 7)),
    ]
    root.branch_points.append(taken)
    assert watcher.update(schedule.replay(tree).leaves) == [
        TokensWithdrawn(0, 1),
        TokensAppended(0, 1, (2,)),
        SequenceOpened(1, 0, 1),
        Branched(0, 1, taken),
        TokensAppended(1, 1, (3, 6, 7)),
    ]


def test_a_branch_that_is_taken_back_and_again_has_another_id() -> None:
    tree = TokenTree((9,), max_new_tokens=20)
    root = root_of(tree, *[2] * 8)
    late, early = point(6, sampled=2), point(3, sampled=2)
    schedule, watcher = OnlineSchedule(2, 1000, 0.5), Watcher()
    root.branch_points[:] = [late]
    watcher.update(schedule.replay(tree).leaves)
    root.branch_points[:] = [early, late]
    assert watcher.update(schedule.replay(tree).leaves) == [
        SequenceWithdrawn(1),
        SequenceOpened(2, 0, 3),
        Branched(0, 2, early),
        TokensAppended(2, 3, (3,)),
    ]
    root.branch_points[:] = [late]
    assert watcher.update(schedule.replay(tree).leaves) == [
        SequenceWithdrawn(2),
        SequenceOpened(3, 0, 6),
        Branched(0, 3, late),
        TokensAppended(3, 6, (3,)),
    ]


def test_a_finished_sequence_that_loses_its_end_finishes_again() -> None:
    tree = TokenTree((9,), max_new_tokens=4)
    root = root_of(tree, 5, 3, 6, 7)
    schedule, watcher = OnlineSchedule(2, 1000, 0.5), Watcher()
    assert watcher.update(schedule.replay(tree).leaves)[-1] == SequenceFinished(0, "length")
    root.branch_points.append(point(1, sampled=3))
    leaves = schedule.replay(tree).leaves
    assert watcher.update(leaves)[-1] == SequenceFinished(1, "length")
    assert watcher.table.finished == {1: "length"}
    tree.append(leaves[0].segment, Generation((8, 8), "length", 1, 0), 2)
    assert watcher.update(schedule.replay(tree).leaves) == [
        TokensAppended(0, 2, (8, 8)),
        SequenceFinished(0, "length"),
    ]


def test_an_empty_root_is_opened_without_tokens() -> None:
    root = TokenTree((9,), max_new_tokens=20).open_root()
    assert Narrator().update([Leaf(0, root)]) == [SequenceOpened(0, None, 0)]


def test_an_update_reads_no_path_of_a_sequence_that_only_grew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaf, narrator = Leaf(0, TokenTree((9,), max_new_tokens=20).open_root()), Narrator()
    narrator.update([leaf])
    leaf.segment.token_ids.extend([2, 2, 2])

    def fail(segment: Segment) -> list[tuple[Segment, int]]:
        raise AssertionError(f"the path of segment {segment.index} is read")

    monkeypatch.setattr(Segment, "lineage", fail)
    assert narrator.update([leaf]) == [TokensAppended(0, 0, (2, 2, 2))]
