"""Stop rules, on the tree of a scripted model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl import (
    Consensus,
    EagerConfig,
    EagerInit,
    FullParallel,
    PromptResult,
    SamplingConfig,
    Sequence,
    Solved,
    Stop,
    Unexplored,
)
from eager_sgl.engine.protocol import Json
from eager_sgl.search.frontier import CERTAIN
from eager_sgl.search.stopping import unexplored_mass
from eager_sgl.tree import TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import (
    EOS,
    VOCABULARY,
    Distribution,
    ScriptedServer,
    mixed_distribution,
)
from tests.fakes.searches import search_of

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
MODELS = range(4)
UNUSED: Any = None
"""In place of a tree that the rule does not look at."""


class CountingServer(ScriptedServer):
    """Records the token ids that it decodes."""

    def __init__(self, distribution: Distribution) -> None:
        super().__init__(distribution)
        self.decoded: list[tuple[int, ...]] = []

    def answer(self, path: str, body: Json | None = None) -> Json:
        if path == "/detokenize" and body is not None:
            self.decoded += [tuple(ids) for ids in body["tokens"]]
        return super().answer(path, body)


def run(server: ScriptedServer, stop: Stop | None = None, **arguments: Any) -> PromptResult:
    fields: dict[str, Any] = {
        "max_sequences": 12,
        "width": 1,
        "top_k": VOCABULARY,
        "reasoning_end": None,
    }
    method = search_of(**fields | arguments, stop=stop, sampling=SAMPLING)
    return run_method(method, endpoint_of(server))


def test_four_equal_answers_are_a_consensus_and_three_are_not() -> None:
    rule = Consensus(lambda sequences: [sequence.text or None for sequence in sequences])

    def is_consensus(*answers: str) -> bool:
        return rule(UNUSED, [Sequence((), (), "stop", text=answer) for answer in answers])

    assert not is_consensus(*"aaa")
    assert not is_consensus(*"aaaab")
    assert is_consensus(*"aaaabaa")
    assert not is_consensus(*[""] * 50), "no answer is no vote"
    assert is_consensus("", *"aaaa")
    assert not is_consensus(*"aaaabbcc" * 3), "the second of the two largest counts is large"


@pytest.mark.parametrize("method", [EagerInit, FullParallel])
def test_only_searches_take_a_stop_rule(method: Any) -> None:
    with pytest.raises(TypeError, match="stop"):
        method(EagerConfig(threshold=0.5, top_k=VOCABULARY), stop=Unexplored(0.5))


@pytest.mark.parametrize("order", ["best_first", "swor", "trie_parallel"])
def test_a_consensus_ends_every_search(order: str) -> None:
    server = ScriptedServer(mixed_distribution(1))
    rule = Consensus(lambda sequences: ["same"] * len(sequences))
    assert len(run(server, rule, order=order).sequences) == 4


def path_mass(distribution: Distribution, paths: Iterable[tuple[int, ...]]) -> float:
    """Probability of distinct sequences; steps that are nearly certain count as certain."""
    return sum(
        math.prod(
            step[token]
            for position, token in enumerate(path)
            if max(step := distribution(path[:position])) < CERTAIN
        )
        for path in set(paths)
    )


@given(model=st.integers(0, 200), width=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_explored_and_unexplored_mass_add_up(model: int, width: int) -> None:
    distribution = mixed_distribution(model)
    seen: list[float] = []

    def check(tree: TokenTree, sequences: Items[Sequence]) -> bool:
        paths = [sequence.token_ids for sequence in sequences]
        left = unexplored_mass(tree)
        assert left + path_mass(distribution, paths) == pytest.approx(1, abs=1e-5)
        seen.append(left)
        return False

    run(ScriptedServer(distribution), check, width=width)
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("below", [0.5, 0.2, 0.05])
@pytest.mark.parametrize("model", MODELS)
def test_a_search_ends_once_the_unexplored_mass_is_small(model: int, below: float) -> None:
    left: list[float] = []

    def note(tree: TokenTree, sequences: Items[Sequence]) -> bool:
        left.append(unexplored_mass(tree))
        return False

    every = run(ScriptedServer(mixed_distribution(model)), note, max_sequences=60)
    some = run(ScriptedServer(mixed_distribution(model)), Unexplored(below), max_sequences=60)
    first = next((n for n, mass in enumerate(left, 1) if mass < below), len(every.sequences))
    assert len(some.sequences) == first
    assert [s.token_ids for s in some.sequences] == [s.token_ids for s in every.sequences[:first]]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_no_request_follows_the_first_correct_sequence(number: int) -> None:
    every = run(ScriptedServer(mixed_distribution(3)))
    wanted = every.sequences[number - 1].text
    judged: list[tuple[int, ...]] = []

    def verifier(sequence: Sequence) -> bool:
        judged.append(sequence.token_ids)
        return sequence.text == wanted

    server = CountingServer(mixed_distribution(3))
    result = run(server, Solved(verifier))
    assert [s.token_ids for s in result.sequences] == [
        s.token_ids for s in every.sequences[:number]
    ]
    assert judged == [s.token_ids for s in result.sequences], (
        "the verifier sees every sequence once"
    )
    asked = [body for body in server.requests if body.get("top_logprobs_num") == VOCABULARY]
    assert sum(len(body["output_ids"]) for body in asked) == result.counts.generated


def test_every_sequence_is_decoded_once() -> None:
    server = CountingServer(mixed_distribution(3))
    result = run(server, lambda tree, sequences: False)
    token_ids = [s.token_ids for s in result.sequences]
    assert sorted(ids for ids in server.decoded if ids in token_ids) == sorted(token_ids)
    assert {s.text for s in result.sequences} != {""}


def test_a_rule_sees_finished_sequences_with_their_texts() -> None:
    def check(tree: TokenTree, sequences: Items[Sequence]) -> bool:
        for sequence in sequences:
            assert sequence.text == " ".join(map(str, sequence.token_ids))
            assert sequence.token_ids[-1] == EOS or len(sequence.token_ids) == 4
        return False

    assert len(run(ScriptedServer(mixed_distribution(0)), check, width=3).sequences) == 12
