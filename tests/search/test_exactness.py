"""A monitor changes the requests, never the distribution of trees."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from eager_sgl import EagerConfig, EagerInit, schedule
from eager_sgl.core import BranchPoint, Generation
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.generate.executor import flights
from eager_sgl.schedule import Leaf, OnlineSchedule
from eager_sgl.tree import Segment, TokenTree
from eager_sgl.tree.writer import SegmentWriter
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.exactness import CASES, ERROR_PROBABILITY, NUM_TREES, config_of_case, fit
from tests.fakes.interrupting import Interrupting
from tests.fakes.per_token import tree_distribution, tree_of
from tests.fakes.scripted import ScriptedServer, mixed_distribution

GATE, PICKLE = "gate", "pickle"
PatchRule = Callable[[pytest.MonkeyPatch], None]


def config_of(case: str, chunk_tokens: int | str, temperature: float = 0.8) -> EagerConfig:
    monitor: dict[str, Any] = (
        {"chunk_tokens": chunk_tokens} if isinstance(chunk_tokens, int) else {"monitor": "gate"}
    )
    return config_of_case(case, temperature, **monitor)


def misfit(case: str, chunk_tokens: int | str, interrupted: float = 0.0) -> float:
    """The probability of a fit as bad as this, if the program draws from the exact distribution."""
    kind = Interrupting if interrupted else ScriptedServer
    server = kind(mixed_distribution(CASES[case][0]), allows_gate=chunk_tokens != PICKLE)
    server.allows_pickle = True
    endpoint, config = endpoint_of(server, gate="pickle"), config_of(case, chunk_tokens)
    if isinstance(server, Interrupting):
        server.probability = interrupted
    seen: Counter[Any] = Counter()
    for seed in range(NUM_TREES):
        server.restart(seed)
        seen[tree_of(run_method(EagerInit(config), endpoint))] += 1
    exact = tree_distribution(server.distribution, config)
    return fit(seen, exact)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 8, GATE, PICKLE])
@pytest.mark.parametrize("case", CASES)
def test_any_monitor_draws_trees_as_the_per_token_method_does(
    case: str, chunk_tokens: int | str
) -> None:
    assert misfit(case, chunk_tokens) > ERROR_PROBABILITY


@pytest.mark.parametrize("chunk_tokens", [8, GATE])
@pytest.mark.parametrize("case", ["races", "impatience"])
def test_interruptions_leave_the_distribution_as_it_is(
    case: str, chunk_tokens: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "MAX_FRUITLESS", 100)
    assert misfit(case, chunk_tokens, interrupted=0.6) > ERROR_PROBABILITY


def test_the_comparison_notices_tokens_that_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long answers are interrupted more often: without their first part they become rarer."""
    append = TokenTree.append

    def forget(tree: TokenTree, segment: Segment, generation: Generation, *arguments: Any) -> None:
        if generation.interrupted is None:
            append(tree, segment, generation, *arguments)
        else:
            tree.record(generation)

    monkeypatch.setattr(TokenTree, "append", forget)
    monkeypatch.setattr(flights, "MAX_FRUITLESS", 100)
    assert misfit("races", 8, interrupted=0.9) < ERROR_PROBABILITY


def no_tail_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    branch = TokenTree.branch

    def keep(tree: TokenTree, segment: Segment, point: BranchPoint, choice: int) -> Segment:
        taken_by_child = choice == 1 and point.sampled != point.token_ids[0]
        return segment if taken_by_child else branch(tree, segment, point, choice)

    monkeypatch.setattr(TokenTree, "branch", keep)


def slots_go_to_the_oldest_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    def push_next(pending: list[tuple[int, int, BranchPoint]], leaf: Leaf, position: int) -> None:
        points = [p for p in leaf.segment.branch_points if p.position >= position]
        if points:
            heapq.heappush(pending, (leaf.index, points[0].position, points[0]))

    def take(self: OnlineSchedule, tree: TokenTree) -> tuple[list[Leaf], tuple[int, int]]:
        leaves = [Leaf(0, tree.segments[0])]
        pending: list[tuple[int, int, BranchPoint]] = []
        push_next(pending, leaves[0], 0)
        while pending and len(leaves) < self.max_sequences:
            index, position, point = heapq.heappop(pending)
            for leaf in schedule._split(tree, leaves, leaves[index], point):
                push_next(pending, leaf, position + 1)
        return leaves, (-1, -1) if len(leaves) >= self.max_sequences else (10**9, 0)

    monkeypatch.setattr(OnlineSchedule, "_take_branches", take)


def nothing_closes_the_reasoning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentWriter, "_find_reasoning_end", lambda *arguments: None)


@pytest.mark.parametrize(
    ("wrong_rule", "case"),
    [
        (no_tail_is_discarded, "few slots"),
        (slots_go_to_the_oldest_sequence, "races"),
        (nothing_closes_the_reasoning, "reasoning closes"),
    ],
)
@pytest.mark.parametrize("chunk_tokens", [3, GATE])
def test_the_comparison_notices_a_wrong_rule(
    wrong_rule: PatchRule, case: str, chunk_tokens: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_rule(monkeypatch)
    assert misfit(case, chunk_tokens) < ERROR_PROBABILITY


def test_the_comparison_notices_a_wrong_patience() -> None:
    server = ScriptedServer(mixed_distribution(CASES["impatience"][0]))
    patient = tree_distribution(server.distribution, config_of("races", 3))
    impatient = tree_distribution(server.distribution, config_of("impatience", 3))
    moved = sum(abs(patient.get(t, 0) - impatient.get(t, 0)) for t in patient | impatient)
    assert moved > 0.2


@pytest.mark.parametrize("model", range(20))
def test_greedy_trees_are_the_same_under_every_monitor(model: int) -> None:
    plugin = ScriptedServer(mixed_distribution(model), allows_gate=True)
    pickled = ScriptedServer(mixed_distribution(model), allows_pickle=True)
    endpoints: dict[int | str, TokenEndpoint] = {
        **dict.fromkeys((1, 2, 3, 5, 8, GATE), endpoint_of(plugin)),
        PICKLE: endpoint_of(pickled, gate="pickle"),
    }
    trees = {
        tree_of(run_method(EagerInit(config_of("races", way, temperature=0)), endpoint))
        for way, endpoint in endpoints.items()
    }
    assert any("custom_logit_processor" in request for request in pickled.requests)
    (exact,) = tree_distribution(mixed_distribution(model), config_of("races", 1, temperature=0))
    assert trees == {exact}
