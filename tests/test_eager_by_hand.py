"""The method in plain SGLang draws the trees of the per-token method, on scripted distributions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from eager_sgl import EagerConfig, EagerInit, TokenEndpoint
from programs import eager_by_hand as program
from programs.eager_by_hand import Branches
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.exactness import CASES, ERROR_PROBABILITY, NUM_TREES, config_of_case, fit
from tests.fakes.per_token import tree_distribution
from tests.fakes.scripted import CLOSE, EOS, ScriptedServer, mixed_distribution

Paths = tuple[tuple[int, ...], ...]
"""The tokens of all sequences, in the order of opening, which determine the tree."""


def config_of(case: str, chunk_tokens: int, temperature: float = 0.8) -> EagerConfig:
    return config_of_case(case, temperature, monitor="chunk", chunk_tokens=chunk_tokens)


def open_paths(sequences: Iterable[tuple[int, ...]]) -> Paths:
    """Sequences without the stop tokens at their ends, which states omit."""
    return tuple(ids[:-1] if ids and ids[-1] == EOS else ids for ids in sequences)


def paths_by_hand(endpoint: TokenEndpoint, config: EagerConfig) -> Paths:
    states = program.eager_by_hand.run(
        prompt=(9,),
        config=config,
        budget=Branches(config.max_sequences, num_left=100),
        eos=EOS,
        think_end=CLOSE,
        backend=endpoint,
    ).ret_value
    return tuple(endpoint.token_ids(state)[1:] for state in states)


def misfit(case: str, chunk_tokens: int) -> float:
    """The probability of a fit as bad as this, if the program draws from the exact distribution."""
    server = ScriptedServer(mixed_distribution(CASES[case][0]))
    endpoint, config = endpoint_of(server), config_of(case, chunk_tokens)
    seen: Counter[Paths] = Counter()
    for seed in range(NUM_TREES):
        server.restart(seed)
        seen[paths_by_hand(endpoint, config)] += 1
    exact: dict[Paths, float] = defaultdict(float)
    for tree, probability in tree_distribution(server.distribution, config).items():
        exact[open_paths(ids for ids, _, _ in tree)] += probability
    return fit(seen, exact)


@pytest.mark.parametrize(("case", "chunk_tokens"), [("races", 1), *((case, 3) for case in CASES)])
def test_it_draws_trees_as_the_per_token_method_does(case: str, chunk_tokens: int) -> None:
    assert misfit(case, chunk_tokens) > ERROR_PROBABILITY


def slots_go_to_the_oldest_sequence(values: Any, *others: Any) -> Any:
    """`min` by the order of opening alone."""
    return min(values, *others) if others else min(values, key=lambda peak: peak[::-1])


def test_the_comparison_notices_slots_that_are_taken_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "min", slots_go_to_the_oldest_sequence, raising=False)
    assert misfit("races", 6) < ERROR_PROBABILITY


@pytest.mark.parametrize("model", range(20))
def test_greedy_trees_are_those_of_the_library(model: int) -> None:
    server = ScriptedServer(mixed_distribution(model))
    endpoint = endpoint_of(server)
    config = config_of("races", 1, temperature=0)
    result = run_method(EagerInit(config), endpoint)
    expected = open_paths(sequence.token_ids for sequence in result.sequences)
    for chunk_tokens in (1, 2, 64):
        assert paths_by_hand(endpoint, replace(config, chunk_tokens=chunk_tokens)) == expected


@pytest.mark.parametrize("branches", [0, 1, 4, 100])
def test_concurrent_prompts_share_the_branches_of_a_budget(branches: int) -> None:
    endpoint = endpoint_of(ScriptedServer(mixed_distribution(42)))
    config = replace(config_of("races", 3), threshold=0.1)
    arguments = {
        "config": config,
        "budget": Branches(config.max_sequences, branches),
        "eos": EOS,
        "think_end": CLOSE,
    }
    prompts = [{"prompt": (prompt,), **arguments} for prompt in range(10, 16)]
    states = program.eager_by_hand.run_batch(prompts, backend=endpoint)
    numbers = [len(state.ret_value) for state in states]
    assert max(numbers) <= config.max_sequences
    assert sum(numbers) - len(prompts) == min(branches, (config.max_sequences - 1) * len(prompts))
