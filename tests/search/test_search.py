"""Searches over the tree of a scripted model: exact where they promise it, no path twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl import (
    EagerConfig,
    EagerInit,
    PromptResult,
    SamplingConfig,
    SearchConfig,
)
from eager_sgl import Sequence as Generated
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.generate.executor import builder
from eager_sgl.search import round_sizes, trie
from eager_sgl.tree import TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.searches import search_of
from tests.search.fits import Path, p_value, sequence_distribution

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
ERROR_PROBABILITY = 1e-5
MODELS = range(4)


def run(server: ScriptedServer, seed: int, **arguments: Any) -> PromptResult:
    return run_on(endpoint_of(server), server, seed, **arguments)


def run_on(
    endpoint: TokenEndpoint, server: ScriptedServer, seed: int, /, **arguments: Any
) -> PromptResult:
    server.restart(seed=seed)
    fields: dict[str, Any] = {"max_sequences": 6, "sampling": SAMPLING, "seed": seed}
    return run_method(search_of(top_k=VOCABULARY, **fields | arguments), endpoint)


def never(tree: TokenTree, sequences: Sequence[Generated]) -> bool:
    """A rule that never ends a search, but is asked before every round."""
    return False


def draws(
    model: int, order: str, num_runs: int, *, allows_gate: bool = False, **arguments: Any
) -> Iterator[list[Path]]:
    server = ScriptedServer(mixed_distribution(model), allows_gate=allows_gate)
    endpoint = endpoint_of(server)
    for seed in range(num_runs):
        result = run_on(endpoint, server, seed, order=order, **arguments)
        yield [sequence.token_ids for sequence in result.sequences]


@pytest.mark.parametrize(("width", "allows_gate"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("model", MODELS)
def test_trie_cached_samples_in_rounds_have_the_distribution_of_plain_sampling(
    model: int, width: int, allows_gate: bool
) -> None:
    fields: dict[str, Any] = {"width": width, "allows_gate": allows_gate, "stop": never}
    runs = list(draws(model, "trie_parallel", 150, **fields))
    assert all(len(sequences) == 6 for sequences in runs)
    counts = Counter(sequence for sequences in runs for sequence in sequences)
    assert (
        p_value(counts, sequence_distribution(mixed_distribution(model), SAMPLING))
        > ERROR_PROBABILITY
    )


@pytest.mark.parametrize(("allows_gate", "interval"), [(False, 16), (True, 1)])
@pytest.mark.parametrize("model", [0, 3])
def test_samples_that_start_at_once_are_independent(
    model: int, allows_gate: bool, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they leave segments whose tokens are still arriving."""
    monkeypatch.setattr(builder, "AWAITED_INTERVAL", interval)
    singles = draws(model, "trie_parallel", 100, max_sequences=30, allows_gate=allows_gate)
    counts = Counter(sequence for sequences in singles for sequence in sequences)
    single = sequence_distribution(mixed_distribution(model), SAMPLING)
    assert p_value(counts, single) > ERROR_PROBABILITY
    pairs = draws(model, "trie_parallel", 400, max_sequences=2, allows_gate=allows_gate)
    together: dict[tuple[Path, Path], float] = defaultdict(float)
    for first, second in product(single, repeat=2):
        together[min(first, second), max(first, second)] += single[first] * single[second]
    seen = Counter((min(pair), max(pair)) for pair in pairs)
    assert p_value(seen, together) > ERROR_PROBABILITY


def test_biased_sampling_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = trie.nucleus
    flat = SamplingConfig(temperature=1.6, top_p=1.0)
    monkeypatch.setattr(
        trie, "nucleus", lambda logprobs, top_k_mass, _: exact(logprobs, top_k_mass, flat)
    )
    counts = Counter(s for sequences in draws(0, "trie_parallel", 150) for s in sequences)
    biased = not set(counts) <= set(sequence_distribution(mixed_distribution(0), SAMPLING))
    assert (
        biased
        or p_value(counts, sequence_distribution(mixed_distribution(0), SAMPLING))
        < ERROR_PROBABILITY
    )


def pair_distribution(model: int) -> dict[tuple[Path, Path], float]:
    """Of the first two draws without replacement, in order."""
    single = sequence_distribution(mixed_distribution(model), SAMPLING)
    return {
        (first, second): single[first] * single[second] / (1 - single[first])
        for first, second in product(single, repeat=2)
        if first != second
    }


def count_pairs(runs: Iterable[list[Path]]) -> Counter[tuple[Path, Path]]:
    return Counter((run[0], run[1]) for run in runs if len(run) == 2)


@pytest.mark.parametrize("allows_gate", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_draws_without_replacement_are_exact(model: int, allows_gate: bool) -> None:
    runs = draws(model, "swor", 400, width=1, max_sequences=2, allows_gate=allows_gate)
    counts = count_pairs(runs)
    assert p_value(counts, pair_distribution(model)) > ERROR_PROBABILITY


def test_biased_draws_without_replacement_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = trie.nucleus
    flat = SamplingConfig(temperature=1.2, top_p=SAMPLING.top_p)
    monkeypatch.setattr(
        trie, "nucleus", lambda logprobs, top_k_mass, _: exact(logprobs, top_k_mass, flat)
    )
    counts = count_pairs(draws(1, "swor", 400, width=1, max_sequences=2))
    expected = pair_distribution(1)
    assert not set(counts) <= set(expected) or p_value(counts, expected) < ERROR_PROBABILITY


@pytest.mark.parametrize("order", ["best_first", "swor"])
@pytest.mark.parametrize("model", MODELS)
def test_no_path_is_opened_twice(model: int, order: str) -> None:
    server = ScriptedServer(mixed_distribution(model))
    for seed in range(20):
        result = run(server, seed, order=order, width=3, max_sequences=12)
        paths = [sequence.token_ids for sequence in result.sequences]
        assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("order", ["best_first", "swor", "trie_parallel"])
def test_nothing_is_discarded_and_prefixes_come_from_the_cache(order: str) -> None:
    server = ScriptedServer(mixed_distribution(2))
    result = run(server, 1, order=order, max_sequences=8, width=4)
    counts = result.counts
    assert counts.discarded == 0
    assert counts.prefilled == counts.requests
    assert counts.naive == sum(len(sequence.token_ids) for sequence in result.sequences)
    for sequence in result.sequences:
        if sequence.parent is not None:
            assert sequence.branch is not None
            before = result.sequences[sequence.parent].token_ids[: sequence.branch.position]
            assert sequence.token_ids[: len(before)] == before
            taken, chosen = sequence.branch.token_ids
            assert sequence.token_ids[len(before)] == chosen != taken


def test_a_search_ends_once_all_sequences_are_drawn() -> None:
    """All sequences of a model with few of them are drawn, however large M is."""
    few = ScriptedServer(lambda path: (0.6 - 3e-9, 0.4, 1e-9, 1e-9, 1e-9))
    result = run(few, 0, order="swor", max_sequences=100, width=2)
    assert len(result.sequences) == 5  # 0, 10, 110, 1110, 1111
    best = run(few, 0, priority="entropy", max_sequences=100, width=2, reasoning_end=None)
    assert {s.token_ids for s in best.sequences} == {s.token_ids for s in result.sequences}


@pytest.mark.parametrize("order", ["best_first", "swor"])
def test_a_round_never_opens_more_than_there_are_sequences(order: str) -> None:
    sizes: list[int] = []
    method = search_of(
        order,
        stop=lambda _, sequences: sizes.append(len(sequences)),
        width=4,
        max_sequences=15,
        top_k=VOCABULARY,
        sampling=SAMPLING,
    )
    run_method(method, endpoint_of(ScriptedServer(mixed_distribution(3))))
    assert sizes == [1, 2, 4, 8, 12]
    assert round_sizes(15, width=4) == [*sizes, 15]


@given(max_sequences=st.integers(1, 80), width=st.integers(1, 20))
def test_round_sizes_rise_to_the_number_of_sequences(max_sequences: int, width: int) -> None:
    sizes = round_sizes(max_sequences, width)
    opened = np.diff(sizes)
    assert (sizes[0], sizes[-1]) == (1, max_sequences)
    assert (opened[:-1] == np.minimum(sizes[:-1], width)[:-1]).all()
    assert (opened <= np.minimum(sizes[:-1], width)).all()


def test_a_budget_and_a_stop_rule_end_a_search() -> None:
    server = ScriptedServer(mixed_distribution(3))
    long = run(server, 4, width=1, max_sequences=30)
    short = run(server, 4, width=1, max_sequences=30, max_tokens=8)
    assert 8 <= short.counts.generated < 8 + 4 < long.counts.generated
    assert [s.token_ids for s in short.sequences] == [
        s.token_ids for s in long.sequences[: len(short.sequences)]
    ]
    endpoint = endpoint_of(server)
    server.restart(seed=4)
    method = search_of(
        stop=lambda _, sequences: len(sequences) >= 3,
        top_k=VOCABULARY,
        sampling=SAMPLING,
        width=1,
    )
    assert len(run_method(method, endpoint).sequences) == 3


def test_candidates_are_opened_by_priority() -> None:
    """At width 1 each opened token had the highest value of all untried ones."""
    server = ScriptedServer(mixed_distribution(1))
    result = run(server, 2, width=1, max_sequences=10, priority="entropy")
    values = [point.priority for point in result.branch_points]
    entropies = [point.entropy for point in result.branch_points]
    assert len(values) == len(result.sequences) - 1
    assert values == pytest.approx(entropies)
    root = result.sequences[0]
    known = [h for h in root.entropies if h == h]
    assert values[0] == pytest.approx(max(known), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"width": 0}, "width is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"top_k": 1}, "top_k is 1"),
        ({"max_sequences": 0}, "max_sequences is 0"),
    ],
)
def test_a_refused_search_names_the_value(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SearchConfig(**arguments)


def test_eager_and_searches_run_the_same_program() -> None:
    server = ScriptedServer(mixed_distribution(1))
    config = EagerConfig(threshold=0.8, top_k=VOCABULARY, sampling=SAMPLING)
    assert run_method(EagerInit(config), endpoint_of(server)).max_sequences == 32
