"""Interrupted requests are continued from their tokens, under every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eager_sgl import (
    EagerConfig,
    EagerInit,
    FullParallel,
    PromptResult,
    SamplingConfig,
)
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.errors import ServerError
from eager_sgl.generate.executor import flights
from eager_sgl.generate.executor.flights import MAX_FRUITLESS
from tests.fakes.endpoint import endpoint_of, resume_method, run_method
from tests.fakes.interrupting import Interrupting
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.searches import search_of

Program = Callable[[TokenEndpoint], PromptResult]

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=24)
FIELDS: dict[str, Any] = {"top_k": VOCABULARY, "max_sequences": 6, "sampling": GREEDY}


def in_parallel(endpoint: TokenEndpoint) -> PromptResult:
    return run_method(FullParallel(GREEDY, 3), endpoint, (9,))


def with_extras(endpoint: TokenEndpoint) -> PromptResult:
    config = EagerConfig(threshold=1.4, deferred_threshold=0.7, **FIELDS | {"max_sequences": 2})
    result = run_method(EagerInit(config), endpoint, (9,))
    return resume_method(endpoint, (9,), result=result, num_sequences=3, sampling=GREEDY)


def eager(**arguments: Any) -> Program:
    config = EagerConfig(threshold=0.9, **FIELDS, **arguments)
    return lambda endpoint: run_method(EagerInit(config), endpoint, (9,))


def searching(order: str) -> Program:
    method = search_of(order, **FIELDS)
    return lambda endpoint: run_method(method, endpoint, (9,))


PROGRAMS: dict[str, Program] = {
    "parallel": in_parallel,
    "resume": with_extras,
    "gate": eager(monitor="gate"),
    "chunk": eager(monitor="chunk", chunk_tokens=4),
    "step": eager(monitor="chunk", chunk_tokens=1),
    "best_first": searching("best_first"),
    "trie_parallel": searching("trie_parallel"),
    "swor": searching("swor"),
}


def run(program: str, server: ScriptedServer, probability: float = 0.0) -> PromptResult:
    endpoint = endpoint_of(server)
    server.restart(0)
    if isinstance(server, Interrupting):
        server.probability = probability
    return PROGRAMS[program](endpoint)


@pytest.mark.parametrize("model", [1, 7, 42])
@pytest.mark.parametrize("program", PROGRAMS)
def test_greedy_trees_are_those_of_a_server_that_interrupts_nothing(
    program: str, model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "MAX_FRUITLESS", 1000)  # some methods request single tokens
    distribution = mixed_distribution(model)
    expected = run(program, ScriptedServer(distribution, allows_gate=True))
    result = run(program, Interrupting(distribution, allows_gate=True), 0.7)
    assert [s.token_ids for s in result.sequences] == [s.token_ids for s in expected.sequences]
    assert [s.parent for s in result.sequences] == [s.parent for s in expected.sequences]
    assert result.counts.unique == expected.counts.unique
    # Under the gate, branches that are taken back cost requests too, in both runs.
    assert program == "gate" or result.counts.requests >= expected.counts.requests
    assert result.counts.discarded >= 0


@pytest.mark.parametrize("program", ["parallel", "chunk", "best_first"])
def test_a_prompt_fails_if_the_server_stops_every_request_at_once(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Interrupting(mixed_distribution(42))
    monkeypatch.setattr(server, "random_number", lambda limit: 0)
    with pytest.raises(ServerError, match=f"{MAX_FRUITLESS} requests in a row.*told to stop"):
        run(program, server, 1.0)
