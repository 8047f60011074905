"""Forks into sequences, chunks and appended tokens on the real runtime."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    Method,
    SamplingConfig,
    SearchConfig,
    TokenEndpoint,
    append_tokens,
    continue_from,
    fork,
    read_chunk,
    set_prompt,
)
from eager_sgl.engine.loop import run
from eager_sgl.signals import retemper
from evals.tasks.countdown_rules import Problem, instruction
from programs.eager_by_hand import Branches, eager_by_hand
from tests.fakes.endpoint import run_method
from tests.integration.test_states import (
    BEGINNINGS,
    CONFIG,
    MESSAGES,
    assert_one_uncached,
    begin_with_messages,
    begin_with_text,
    begin_with_token_ids,
    greedy,
    text_of,
)

pytestmark = pytest.mark.integration

METHODS: dict[str, Method] = {
    "branches": EagerInit(replace(CONFIG, threshold=0.05)),
    "parallel": FullParallel(CONFIG.sampling, max_sequences=3),
    "search": BestFirst(SearchConfig(max_sequences=3, sampling=CONFIG.sampling)),
}


def beginning(target: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": instruction(Problem((7, 5, 20, 4), target, 3))}]


def begin_hard_with_text(s: ProgramState, endpoint: TokenEndpoint) -> None:
    s += text_of(endpoint, beginning(83))


def begin_hard_with_messages(s: ProgramState, endpoint: TokenEndpoint) -> None:
    set_prompt(s, beginning(83))


def begin_hard_with_token_ids(s: ProgramState, endpoint: TokenEndpoint) -> None:
    set_prompt(s, endpoint.encode(beginning(83)))


HARD = [begin_hard_with_text, begin_hard_with_messages, begin_hard_with_token_ids]
"""Prompts on which every method has several sequences."""
COMMON = (begin_with_text, begin_with_messages, begin_with_token_ids)
OTHERS = [begin for begin in BEGINNINGS if begin not in COMMON]
"""Beginnings of other kinds."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("begin", [*OTHERS, *HARD])
def test_a_branch_has_a_single_uncached_token(
    endpoint: TokenEndpoint, begin: Any, method: str
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> None:
        begin(s, endpoint)
        before, text = endpoint.token_ids(s), s.text()
        states = fork(s, METHODS[method])
        assert len(states) > 1 or begin not in HARD
        for state, sequence in zip(states, states.result.sequences, strict=True):
            assert endpoint.token_ids(state) == (*before, *sequence.open_token_ids)
            assert state.text() == text + sequence.text
        states += greedy("a", max_tokens=1)
        for state, sequence in zip(states, states.result.sequences, strict=True):
            assert_one_uncached(state, "a", (*before, *sequence.open_token_ids))
        states.join()
        assert s["a"] == [state["a"] for state in states]
        s += greedy("b", max_tokens=1)
        assert_one_uncached(s, "b", before)

    assert program.run(backend=endpoint).error() is None


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_members_of_a_group_fork_again_and_continue(endpoint: TokenEndpoint, begin: Any) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> None:
        begin(s, endpoint)
        states = fork(s, METHODS["parallel"])
        states += lambda index: f" 0{index}"
        first, second = states[0], states[1]
        inner = fork(first, METHODS["parallel"])
        inner += greedy("a", n=2)
        inner.join()
        assert len(first["a"]) == len(inner)
        continue_from(first, inner.result.sequences[-1])
        halves = second.fork(2)
        halves += greedy("a", max_tokens=1)
        for half in halves.states:
            assert_one_uncached(half, "a", endpoint.token_ids(second))
        first += greedy("b", max_tokens=1)
        before = inner.result.prompt_ids
        assert_one_uncached(first, "b", (*before, *inner.result.sequences[-1].open_token_ids))

    assert program.run(backend=endpoint).error() is None


def test_32_sequences_cost_32_threads_until_their_join(endpoint: TokenEndpoint) -> None:
    method = FullParallel(SamplingConfig(max_new_tokens=60), max_sequences=32)

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> None:
        set_prompt(s, MESSAGES)
        num_threads, start = threading.active_count(), time.monotonic()
        states = fork(s, method)
        assert threading.active_count() - num_threads == 32
        states += greedy("a", max_tokens=1)
        states.join()
        assert threading.active_count() <= num_threads
        assert time.monotonic() - start < 30  # 1.2 s on two idle cores
        metas = [state.get_meta_info("a") for state in states]
        assert {meta["prompt_tokens"] - meta["cached_tokens"] for meta in metas} == {1}

    assert program.run(backend=endpoint).error() is None


@pytest.mark.parametrize("chunk_tokens", [1, 64])
def test_the_program_by_hand_grows_the_trees_of_the_library(
    endpoint: TokenEndpoint, chunk_tokens: int
) -> None:
    config = EagerConfig(
        threshold=0.4,
        max_sequences=6,
        chunk_tokens=chunk_tokens,
        monitor="chunk",
        sampling=SamplingConfig(temperature=0, max_new_tokens=100),
    )
    (think_end,) = run(endpoint.client.marker("</think>"))
    prompts = [beginning(target) for target in (12, 31, 60, 83)]
    arguments = {
        "config": config,
        "budget": Branches(config.max_sequences, num_left=100),
        "eos": eos_of(endpoint),
        "think_end": think_end,
    }
    states = eager_by_hand.run_batch(
        [{"prompt": prompt, **arguments} for prompt in prompts], backend=endpoint
    )
    for prompt, state in zip(prompts, states, strict=True):
        result = run_method(EagerInit(config), endpoint, prompt)
        by_hand = [endpoint.token_ids(path) for path in state.ret_value]
        assert by_hand == [(*result.prompt_ids, *s.open_token_ids) for s in result.sequences]
        assert len(by_hand) > 1


def eos_of(endpoint: TokenEndpoint) -> int:
    (eos,) = (
        token
        for token in range(endpoint.profile.vocabulary_size)
        if run(endpoint.client.is_stop_token(token))
    )
    return eos


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.5])
def test_chunks_of_any_temperature_show_the_same_model(
    endpoint: TokenEndpoint, temperature: float
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, MESSAGES)
        rows = []
        for wanted in (0.0, temperature):
            with s.copy() as copy:
                copy += sgl.gen(
                    "a",
                    max_tokens=8,
                    temperature=wanted,
                    return_logprob=True,
                    top_logprobs_num=20,
                )
                before = len(endpoint.token_ids(s))
                token_ids, top = read_chunk(copy, "a")
                held = endpoint.token_ids(copy)[before:]
                assert held == token_ids[: len(held)]
                assert top.token_ids.shape == (len(token_ids), 20)
                assert top.temperature == (wanted or 1.0)
                rows.append(
                    dict(
                        zip(
                            top.token_ids[0].tolist(),
                            retemper(top.logprobs[0], taken_at=top.temperature, wanted=1.0),
                            strict=True,
                        )
                    )
                )
        return rows

    raw, tempered = program.run(backend=endpoint).ret_value
    common = sorted(raw.keys() & tempered.keys())
    assert len(common) > 10
    ratios = [raw[token] / tempered[token] for token in common if raw[token] > 1e-6]
    np.testing.assert_allclose(ratios, 1, rtol=0.05)


def test_a_chunk_that_cannot_be_read_is_an_error(endpoint: TokenEndpoint) -> None:
    logprobs = {"return_logprob": True, "top_logprobs_num": 20}
    cases: dict[str, dict[str, Any]] = {
        "stop string": {"stop": "7", **logprobs},
        "without logprobs": {},
        "top_logprobs_num": {"return_logprob": True},
        "n=1": {"n": 2, **logprobs},
    }

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> None:
        set_prompt(s, MESSAGES)
        for name, options in cases.items():
            with s.copy() as copy:
                copy += greedy(name, max_tokens=8, **options)
                with pytest.raises(ValueError, match=name):
                    read_chunk(copy, name)
        with s.copy() as copy:
            copy += greedy("none", max_tokens=0, **logprobs)
            token_ids, top = read_chunk(copy, "none")
            assert (token_ids, len(top.token_ids)) == ((), 0)

    assert program.run(backend=endpoint).error() is None


def test_appended_tokens_are_sent_as_they_are(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> None:
        set_prompt(s, MESSAGES)
        ids = run(endpoint.client.encode_more("12 = 7"))
        append_tokens(s, ids)
        append_tokens(s, ())
        append_tokens(s, (eos_of(endpoint),))
        assert endpoint.token_ids(s) == (*endpoint.encode(MESSAGES), *ids, eos_of(endpoint))
        assert s.text() == endpoint.decode([ids])[0]

    assert program.run(backend=endpoint).error() is None
