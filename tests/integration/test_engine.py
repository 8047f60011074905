"""EAGer on the real runtime with the bundled reasoner: sharing, exactness, reproduction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    FullParallel,
    PromptResult,
    SamplingConfig,
    TokenEndpoint,
    connect,
    continue_from,
    eager_generate,
)
from eager_sgl.engine.loop import run
from eager_sgl.errors import AuthenticationError, RequestRejectedError, ServerUnsuitableError
from eager_sgl.signals import retemper, top_k_entropy
from evals.tasks.countdown_rules import Problem, instruction
from tests.conftest import API_KEY
from tests.fakes.endpoint import run_method
from tests.fakes.waiting import wait_until
from tests.faults.servers import num_requests

pytestmark = pytest.mark.integration

MESSAGES = [{"role": "user", "content": instruction(Problem((3, 8, 3, 18), 2, 4))}]
THRESHOLD = 0.7


def config_of(chunk_tokens: int = 16, **sampling: Any) -> Any:
    sampling = {"temperature": 0.6, "max_new_tokens": 300} | sampling
    return EagerConfig(
        threshold=THRESHOLD,
        max_sequences=8,
        monitor="chunk",
        chunk_tokens=chunk_tokens,
        sampling=SamplingConfig(**sampling),
    )


def flush(endpoint: TokenEndpoint) -> Any:
    """Empty the radix cache, once all requests have ended that earlier tests have left."""
    assert wait_until(lambda: num_requests(endpoint.client.transport.url, API_KEY) == 0)
    endpoint.flush_cache()


def reread(
    endpoint: TokenEndpoint, prompt_ids: Sequence[int], token_ids: Sequence[int], num_top: int = 20
) -> Any:
    """The model's logprobs of a sequence sent as a prompt: one (logprob, top) per token."""
    answer: Any = run(
        endpoint.client.transport.post(
            "/generate",
            lambda: {
                "input_ids": [*prompt_ids, *token_ids],
                "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
                "return_logprob": True,
                "logprob_start_len": len(prompt_ids) - 1,
                "top_logprobs_num": num_top,
            },
        )
    )
    meta = answer["meta_info"]
    logprobs = [row[0] for row in meta["input_token_logprobs"]][-len(token_ids) :]
    tops = meta["input_top_logprobs"][-len(token_ids) :]
    return logprobs, [np.array([entry[0] for entry in top]) for top in tops]


@pytest.fixture(scope="module")
def tree(endpoint: TokenEndpoint) -> PromptResult:
    return run_method(EagerInit(config_of()), endpoint, MESSAGES)


def test_the_profile_is_that_of_the_runtime(endpoint: TokenEndpoint) -> None:
    assert endpoint.profile.logprobs == "tempered"
    assert endpoint.profile.page_size == 1
    assert endpoint.profile.context_length >= 512


def test_every_request_prefills_one_token_and_the_prompt_once(endpoint: TokenEndpoint) -> None:
    flush(endpoint)
    result = run_method(EagerInit(config_of()), endpoint, MESSAGES)
    assert len(result.sequences) > 1
    assert result.counts.prefilled == len(result.prompt_ids) + result.counts.requests - 1


def test_full_parallel_prefills_the_prompt_once(endpoint: TokenEndpoint) -> None:
    flush(endpoint)
    sampling = SamplingConfig(max_new_tokens=300)
    result = run_method(FullParallel(sampling, 8), endpoint, MESSAGES)
    assert result.counts.prefilled == len(result.prompt_ids) + 8


def test_unique_tokens_are_the_distinct_prefixes(tree: PromptResult) -> None:
    paths = [s.token_ids for s in tree.sequences]
    assert tree.counts.unique == len({p[:n] for p in paths for n in range(1, len(p) + 1)})


def test_greedy_trees_are_the_same_for_every_chunk_size(endpoint: TokenEndpoint) -> None:
    def grown(chunk_tokens: int) -> Any:
        config = config_of(chunk_tokens, temperature=0.0)
        result = run_method(EagerInit(config), endpoint, MESSAGES)
        return [(s.token_ids, s.parent) for s in result.sequences]

    with ThreadPoolExecutor(3) as pool:
        trees = list(pool.map(grown, (5, 16, 300)))
    assert len(trees[0]) > 1
    assert trees[0] == trees[1] == trees[2]


def test_sequences_read_again_give_the_recorded_logprobs(endpoint: TokenEndpoint) -> None:
    """At temperature 1, where the logprobs of inputs and outputs are both the model's."""
    config = config_of(temperature=1.0)
    result = run_method(EagerInit(config), endpoint, MESSAGES)
    compared = 0
    for sequence in result.sequences:
        logprobs, _ = reread(endpoint, result.prompt_ids, sequence.token_ids)
        for recorded, read in zip(sequence.logprobs, logprobs, strict=True):
            if not math.isnan(recorded):
                assert recorded == pytest.approx(read, abs=2e-3)
                compared += 1
    assert compared > 50


def test_branch_points_read_again_give_the_recorded_evidence(
    endpoint: TokenEndpoint, tree: PromptResult
) -> None:
    """At τ = 0.6 too: the conversion to temperature 1 is exact over the top K."""
    for sequence in tree.sequences[1:]:
        point = sequence.branch
        assert point is not None
        _, tops = reread(endpoint, tree.prompt_ids, sequence.token_ids)
        probabilities = retemper(tops[point.position], taken_at=1.0, wanted=1.0)
        assert point.entropy == pytest.approx(float(top_k_entropy(probabilities)), abs=2e-3)
        assert point.entropy >= THRESHOLD
        assert point.probabilities == pytest.approx(tuple(probabilities[:2]), abs=2e-3)


def test_reasoning_is_closed_and_the_answer_follows(
    endpoint: TokenEndpoint, tree: PromptResult
) -> None:
    finished = [s for s in tree.sequences if s.finish_reason == "stop"]
    assert finished
    for sequence in finished:
        reasoning, mark, answer = sequence.text.partition("</think>")
        assert reasoning
        assert mark
        assert answer.strip()
    (close,) = run(endpoint.client.marker("</think>"))
    for sequence in tree.sequences[1:]:
        assert sequence.branch is not None
        assert close not in sequence.token_ids[: sequence.branch.position]


def test_stop_tokens_are_known(endpoint: TokenEndpoint, tree: PromptResult) -> None:
    (eos,) = {s.token_ids[-1] for s in tree.sequences if s.finish_reason == "stop"}
    assert run(endpoint.client.is_stop_token(eos))
    assert not run(endpoint.client.is_stop_token(tree.sequences[0].token_ids[0]))


def test_token_ids_and_messages_are_the_same_prompt(
    endpoint: TokenEndpoint, tree: PromptResult
) -> None:
    ids = endpoint.encode(MESSAGES)
    again = run_method(FullParallel(SamplingConfig(max_new_tokens=8), 1), endpoint, ids)
    assert tree.prompt_ids == again.prompt_ids == ids


def test_a_program_branches_from_the_tokens_of_its_state(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def solve(s: ProgramState, question: Any) -> Any:
        s += question
        result = eager_generate(s, EagerInit(config_of()))
        continue_from(s, result.sequences[0])
        s += sgl.gen("more", max_tokens=1, temperature=0)
        return result

    prompt = endpoint.decode([endpoint.encode(MESSAGES)])[0]
    state = solve.run(question=prompt, backend=endpoint)
    meta = state.get_meta_info("more")
    result, chosen = state.ret_value, state.ret_value.sequences[0]
    kept = len(chosen.token_ids) - (chosen.finish_reason == "stop")
    assert meta["prompt_tokens"] == len(result.prompt_ids) + kept
    assert meta["cached_tokens"] == meta["prompt_tokens"] - 1
    assert state.text().startswith(prompt + chosen.text)


@pytest.mark.parametrize("kind", [EagerInit, FullParallel])
def test_sequences_run_to_the_end_of_the_context(endpoint: TokenEndpoint, kind: Any) -> None:
    """Ten tokens before it; the reasoner's chains are longer."""
    prompt = endpoint.encode(MESSAGES)
    prompt = (prompt * 50)[-endpoint.profile.context_length + 10 :]
    sampling = SamplingConfig(max_new_tokens=500)
    config = EagerConfig(threshold=0.5, max_sequences=8, chunk_tokens=3, sampling=sampling)
    method = FullParallel(sampling, 8) if kind is FullParallel else EagerInit(config)
    result = run_method(method, endpoint, prompt)
    assert {len(s.token_ids) for s in result.sequences} == {10}


def test_a_prompt_longer_than_the_context_is_one_sentence(endpoint: TokenEndpoint) -> None:
    ids = endpoint.encode(MESSAGES) * endpoint.profile.context_length
    with pytest.raises(RequestRejectedError, match=f"{len(ids)} tokens"):
        run_method(EagerInit(config_of()), endpoint, ids)


@pytest.mark.parametrize("api_key", ["", "wrong"])
def test_a_wrong_api_key_is_one_sentence(server_url: str, api_key: str) -> None:
    with pytest.raises(AuthenticationError, match="refused the API key"):
        connect(server_url, api_key=api_key)


def test_a_url_that_is_no_sglang_server_is_an_error(server_url: str) -> None:
    with pytest.raises(ServerUnsuitableError, match="not as an SGLang server"):
        connect(f"{server_url}/nothing-here", api_key=API_KEY)


@pytest.mark.usefixtures("server_url")
def test_the_servers_key_is_on_no_command_line() -> None:
    """All users of a machine can read it, and requests may contain code."""
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert any("eager_sgl.embedded.process" in line for line in lines)
    assert not any(API_KEY in line for line in lines)
