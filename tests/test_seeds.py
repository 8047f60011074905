"""A seed repeats a tree on a server that honours it, whatever the order and length of requests."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import chisquare

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    Method,
    SamplingConfig,
    SearchConfig,
    TrieParallel,
    WithoutReplacement,
    tree,
)
from eager_sgl.core import BranchPoint, Generation
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.seeds import derived_seed
from eager_sgl.tree import Segment, TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.interrupting import Interrupting
from tests.fakes.per_token import Tree, tree_distribution, tree_of
from tests.fakes.runs import config_of
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=8)
SEARCH = SearchConfig(
    max_sequences=8, width=3, top_k=VOCABULARY, reasoning_end=None, sampling=SAMPLING
)
METHODS: dict[str, Callable[[int | None], Method]] = {
    "parallel": lambda seed: FullParallel(SAMPLING, 8, seed=seed),
    "eager_init": lambda seed: EagerInit(config_of(threshold=0.8), seed=seed),
    "best_first": lambda seed: BestFirst(SEARCH, seed=seed),
    "trie_parallel": lambda seed: TrieParallel(SEARCH, seed=seed),
    "swor": lambda seed: WithoutReplacement(SEARCH, seed=seed),
}
MODELS = range(4)


def honouring(
    model: int,
    order: int = 0,
    kind: type[ScriptedServer] = ScriptedServer,
    *,
    honours_seed: bool = True,
) -> Any:
    """A server that honours seeds, by itself or by its gate, and answers in one of many orders."""
    server = kind(mixed_distribution(model), allows_gate=True, honours_seed=honours_seed)
    server._order = random.Random(order)
    return server


def tree_on(server: ScriptedServer, method: Method) -> Tree:
    return tree_of(run_method(method, endpoint_of(server)))


@pytest.mark.parametrize("honours_seed", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_a_seed_repeats_the_tree_in_any_order_of_answers(name: str, honours_seed: bool) -> None:
    make = METHODS[name]
    trees = {
        seed: [
            tuple(
                tree_on(honouring(model, order, honours_seed=honours_seed), make(seed))
                for model in MODELS
            )
            for order in range(4)
        ]
        for seed in (1, 2)
    }
    assert len(set(trees[1])) == len(set(trees[2])) == 1
    assert trees[1] != trees[2]


@pytest.mark.parametrize("honours_seed", [True, False])
@pytest.mark.parametrize("model", range(8))
def test_a_seed_gives_one_tree_under_every_monitor(model: int, honours_seed: bool) -> None:
    monitors: list[dict[str, Any]] = [
        *({"monitor": "chunk", "chunk_tokens": chunk} for chunk in (1, 2, 3, 5, 8)),
        {"monitor": "gate"},
    ]
    trees = {
        tree_on(
            honouring(model, order, honours_seed=honours_seed),
            EagerInit(config_of(threshold=0.8, **monitor), seed=1),
        )
        for order, monitor in enumerate(monitors)
    }
    assert len(trees) == 1


@pytest.mark.parametrize("monitor", ["chunk", "gate"])
def test_interruptions_leave_the_tree_of_a_seed_as_it_is(
    monitor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eager_sgl.generate.executor.flights.MAX_FRUITLESS", 100)
    for model in MODELS:
        server = honouring(model, kind=Interrupting)
        endpoint, method = endpoint_of(server), EagerInit(config_of(monitor=monitor), seed=1)
        server.probability = 0.6
        expected = tree_on(honouring(model), method)
        assert tree_of(run_method(method, endpoint)) == expected


def seeds_of_requests(server: ScriptedServer) -> set[int | None]:
    """The seeds for the gate among the requests since the last restart."""
    params = [request["sampling_params"].get("custom_params") for request in server.requests]
    return {gate.seed if (gate := Gate.parse(each)) else None for each in params}


@pytest.mark.parametrize("name", METHODS)
def test_a_gates_seed_is_sent_only_where_the_user_gives_one_and_the_server_has_no_other(
    name: str,
) -> None:
    for honours_seed, seed in ((False, 1), (False, None), (True, 1)):
        server = honouring(1, honours_seed=honours_seed)
        endpoint = endpoint_of(server)
        server.requests.clear()
        run_method(METHODS[name](seed), endpoint)
        seeds = seeds_of_requests(server) - {None}
        assert bool(seeds) == (seed is not None and not honours_seed)


@pytest.mark.parametrize("name", METHODS)
def test_without_a_seed_nothing_is_repeated(name: str) -> None:
    """SGLang gives all requests without a seed the same one."""
    method = METHODS[name](None)
    trees = [tuple(tree_on(honouring(model), method) for model in MODELS) for _ in range(2)]
    assert trees[0] != trees[1]
    assert any(len({tokens for tokens, _, _ in grown}) > 1 for grown in trees[0])


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("name", METHODS)
def test_no_two_segments_have_the_same_seed(
    name: str, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, grown = METHODS[name](seed), []
    monkeypatch.setattr(type(method), "annotate", lambda _, result, tree: grown.append(tree))
    for model in MODELS:
        run_method(method, endpoint_of(ScriptedServer(mixed_distribution(model))))
    assert sum(len(each.segments) for each in grown) > 2 * len(MODELS)
    for segments in (each.segments for each in grown):
        seeds = {segment.seed for segment in segments}
        assert len(seeds) == len(segments)
        assert all(0 <= seed < 2**63 for seed in seeds)


def point(position: int) -> BranchPoint:
    return BranchPoint(position, 1.0, (2, 3), (0.5, 0.5), (-0.7, -0.7), sampled=2)


def branched(positions: list[int], seed: int = 1, prompt: tuple[int, ...] = (9,)) -> dict[int, int]:
    """The seeds of branches of a root by position, opened in the order of `positions`."""
    grown = TokenTree(prompt, max_new_tokens=20, seed=seed)
    root = grown.open_root()
    grown.append(root, Generation((2,) * 6, "length", 1, 0), 6)
    return {position: grown.branch(root, point(position), 1).seed for position in positions}


def test_the_seed_of_a_branch_depends_on_its_path_and_not_on_when_it_is_opened() -> None:
    assert branched([1, 4, 2]) == branched([4, 2, 1])
    others = (branched([1], seed=2), branched([1], prompt=(8,)), branched([2]))
    assert not set(branched([1]).values()) & {next(iter(seeds.values())) for seeds in others}


def test_a_branch_of_another_tree_has_the_seed_of_its_path() -> None:
    def opened(*paths: tuple[int, ...]) -> dict[tuple[int, ...], int]:
        grown = TokenTree((9,), max_new_tokens=20, seed=1)
        return {path: grown.branch_given(path, point(len(path)), 1).seed for path in paths}

    assert opened((2, 2), (2,), ()) == opened((), (2,), (2, 2))
    assert len(set(opened((2, 2), (2,), ()).values())) == 3


def test_a_derived_seed_is_the_same_in_every_process() -> None:
    assert derived_seed(1, 2, -1) == 6375444760477812130
    assert derived_seed(1, 23) != derived_seed(12, 3) != derived_seed(1, 2, 3)


CONFIG = EagerConfig(
    threshold=1.4,
    top_k=VOCABULARY,
    max_sequences=4,
    chunk_tokens=3,
    sampling=SamplingConfig(temperature=0.8, top_p=0.8, max_new_tokens=6),
)


def misfit(num_trees: int = 600) -> float:
    """The probability of a fit as bad as this, if seeds draw from the exact distribution."""
    server = honouring(42)
    endpoint = endpoint_of(server)
    method = EagerInit(CONFIG)
    seen = Counter(
        tree_of(run_method(replace(method, seed=seed), endpoint)) for seed in range(num_trees)
    )
    exact = tree_distribution(server.distribution, CONFIG)
    if not set(seen) <= set(exact):
        return 0.0
    frequent = [grown for grown, probability in exact.items() if probability * num_trees >= 5]
    observed = [seen[grown] for grown in frequent]
    expected = [exact[grown] * num_trees for grown in frequent]
    observed.append(num_trees - sum(observed))
    expected.append(num_trees - sum(expected))
    return float(chisquare(observed, expected).pvalue)


def test_trees_of_seeds_have_the_distribution_of_the_per_token_method() -> None:
    assert misfit() > 1e-4


def test_the_comparison_notices_branches_with_the_seed_of_their_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_segment = TokenTree._open

    def with_common_noise(
        self: TokenTree, parent: Segment, point: BranchPoint, choice: int
    ) -> Segment:
        segment = open_segment(self, parent, point, choice)
        segment.seed = parent.seed
        return segment

    monkeypatch.setattr(tree.TokenTree, "_open", with_common_noise)
    assert misfit() < 1e-4
