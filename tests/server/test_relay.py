"""Requests that the SGLang server's own routes answer."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import openai
import pytest

from eager_sgl.engine.replicas import Replicas
from eager_sgl.server.app import create_app
from eager_sgl.server.relay import _unread
from eager_sgl.server.settings import EndpointSettings
from tests.fakes.replicas import Replica
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.upstream import MODEL, listening, upstream

CHAT: Any = [{"role": "user", "content": "a question"}]
SHORT: Any = {"model": MODEL, "prompt": [9], "max_tokens": 2, "temperature": 1.0, "n": 8}


@pytest.fixture(scope="module")
def sglang() -> Any:
    return upstream(ScriptedServer(mixed_distribution(42)))


@pytest.fixture(scope="module")
def client(sglang: Any) -> Iterator[openai.OpenAI]:
    with (
        listening(sglang) as theirs,
        listening(create_app(EndpointSettings(servers=(theirs,), chat_defaults={}))) as ours,
        openai.OpenAI(base_url=f"{ours}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_a_body_arrives_as_it_was_given(client: openai.OpenAI, sglang: Any) -> None:
    given: Any = {"stop": ["."], "top_p": 0.5, "tools": [{"type": "function", "function": {}}]}
    answer: Any = client.chat.completions.create(
        model=f"{MODEL}:parallel", messages=CHAT, n=3, timeout=50, user="u", **given
    )
    assert sglang.state.bodies[-1] == {"model": MODEL, "messages": CHAT, "n": 3} | given
    assert answer.model == f"{MODEL}:parallel"
    assert answer.eager["method"] == "parallel"
    assert answer.usage.completion_tokens == answer.eager["tokens"]["naive"]
    assert "cached_share" not in answer.eager  # which this server does not report


def test_names_of_vllm_are_those_of_sglang(client: openai.OpenAI, sglang: Any) -> None:
    """As its_hub sends them for a step after an answer's beginning: both in the body and beside."""
    given: Any = {"include_stop_str_in_output": True}
    messages: Any = [*CHAT, {"role": "assistant", "content": "a beginning"}]
    given |= {"add_generation_prompt": False, "continue_final_message": True}
    client.chat.completions.create(
        model=MODEL, messages=messages, stop=".", extra_body=given | {"extra_body": given}
    )
    assert sglang.state.bodies[-1] == {
        "model": MODEL,
        "messages": messages,
        "n": 1,
        "stop": ".",
        "no_stop_trim": True,
        "continue_final_message": True,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"add_generation_prompt": False},
        {"add_generation_prompt": False, "continue_final_message": True},  # after the user's
        {"include_stop_str_in_output": False, "no_stop_trim": True},
    ],
)
def test_prompts_and_texts_that_sglang_does_not_make_are_refused(
    client: openai.OpenAI, fields: Any
) -> None:
    with pytest.raises(openai.BadRequestError, match=next(iter(fields))):
        client.chat.completions.create(model=MODEL, messages=CHAT, extra_body=fields)


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**63 - 1])
def test_every_integer_of_64_bits_is_a_seed(client: openai.OpenAI, sglang: Any, seed: int) -> None:
    client.chat.completions.create(model=MODEL, messages=CHAT, seed=seed)
    assert sglang.state.bodies[-1]["seed"] == seed


@pytest.mark.parametrize("stream", [True, False])
def test_cached_tokens_that_the_server_reports_are_in_the_bill(stream: bool) -> None:
    sglang = upstream(ScriptedServer(mixed_distribution(42)), cached_tokens=1)
    with (
        listening(sglang) as theirs,
        listening(create_app(EndpointSettings(servers=(theirs,), chat_defaults={}))) as ours,
    ):
        body = SHORT | {"n": 1, "stream": stream, "stream_options": {"include_usage": True}}
        text = httpx.post(f"{ours}/v1/completions", json=body).text
    last = text.removesuffix("data: [DONE]\n\n").split("data: ")[-1]
    answer = json.loads(last)
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert answer["eager"]["cached_share"] == round(1 / answer["usage"]["prompt_tokens"], 4)


def test_the_answer_says_why_it_is_not_of_the_trie(client: openai.OpenAI) -> None:
    answer: Any = client.completions.create(model=MODEL, prompt="a", n=2, stop=".", top_p=0.9)
    assert "stop" in answer.eager["reason"]
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_the_load_and_the_bill_are_of_all_sequences(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request weighs what it may generate: without a limit, as long as the context."""
    loads, lease = [], Replicas.lease

    def noting(self: Replicas, expected_tokens: int, *rest: Any) -> Any:
        loads.append(expected_tokens)
        return lease(self, expected_tokens, *rest)

    monkeypatch.setattr(Replicas, "lease", noting)
    several: Any = {"prompt": ["a", "b", "c"], "n": 2}
    answer: Any = client.completions.create(model=MODEL, max_tokens=3, **several)
    assert answer.eager["sequences"] == 6
    assert loads == [6 * 3]
    client.completions.create(model=MODEL, **several)
    assert loads.pop() == 6 * 16, "the length of completions without a limit"
    client.chat.completions.create(model=f"{MODEL}:parallel", messages=CHAT, n=2)
    models: Any = client.models.list().data
    assert loads.pop() == 2 * models[0].max_model_len


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream_has_usage_if_it_is_wanted(client: openai.OpenAI, wants_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    pieces: list[Any] = list(
        client.chat.completions.create(model=MODEL, messages=CHAT, n=2, stream=True, **options)
    )
    assert {c.index for piece in pieces for c in piece.choices} == {0, 1}
    assert bool(getattr(pieces[-1], "eager", None)) == wants_usage
    assert (pieces[-1].usage is not None) == wants_usage


def test_events_are_passed_on_as_they_are(client: openai.OpenAI, sglang: Any) -> None:
    """By either name; only the last one, which has the usage, has more."""
    fields = {"prompt": [9], "max_tokens": 3, "temperature": 0, "stream": True}
    texts = []
    for model in (MODEL, f"{MODEL}:parallel"):
        answer = httpx.post(f"{client.base_url}completions", json=fields | {"model": model})
        events = answer.text.removesuffix("\n\n").split("\n\n")
        assert events[-1] == "data: [DONE]"
        texts.append([event.replace(f'"{model}"', '""') for event in events])
    assert texts[0] == texts[1]
    assert len(texts[0]) == 2


@pytest.mark.parametrize("num_failures", [1, 9])
def test_a_connection_that_was_closed_before_is_opened_again(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, num_failures: int
) -> None:
    post, failures = aiohttp.ClientSession.post, [True] * num_failures

    async def failing(self: aiohttp.ClientSession, url: str, **fields: Any) -> Any:
        if "/v1/" in url and failures:
            failures.pop()
            raise aiohttp.ServerDisconnectedError
        return await post(self, url, **fields)

    monkeypatch.setattr(aiohttp.ClientSession, "post", failing)
    if num_failures == 1:
        assert client.completions.create(model=MODEL, prompt=[9], max_tokens=2).choices
    else:
        with pytest.raises(openai.InternalServerError, match="no SGLang server can answer"):
            client.completions.create(model=MODEL, prompt=[9], max_tokens=2)


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_keeps_its_status_and_message(client: openai.OpenAI, stream: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="the message of SGLang"):
        client.chat.completions.create(model=MODEL, messages=CHAT, temperature=1.5, stream=stream)


def test_samples_through_the_trie_have_the_law_of_the_servers_own(client: openai.OpenAI) -> None:
    """400 samples each; the distance of two such samples of one law is below 0.25 (p < 1e-5)."""
    laws = []
    for method in ("parallel", "trie_parallel"):
        body: Any = {"eager": {"method": method} if method == "parallel" else {}}
        answers: list[Any] = [
            client.completions.create(extra_body=body, **SHORT) for _ in range(50)
        ]
        assert {answer.eager["method"] for answer in answers} == {method}
        laws.append(Counter(choice.text for answer in answers for choice in answer.choices))
    first, second = laws
    texts = first.keys() | second.keys()
    assert sum(abs(first[text] - second[text]) for text in texts) / 800 < 0.25


@pytest.mark.parametrize("n", [1, 3])
def test_a_replica_that_dies_is_survived(n: int) -> None:
    with (
        contextlib.ExitStack() as dying,
        listening(upstream(Replica("http://stays"))) as stays,
    ):
        dies = dying.enter_context(listening(upstream(Replica("http://dies"))))
        app = create_app(EndpointSettings(servers=(dies, stays), chat_defaults={}))
        with (
            listening(app) as ours,
            openai.OpenAI(base_url=f"{ours}/v1", api_key="none", max_retries=0) as client,
        ):
            fields: Any = {"model": MODEL, "prompt": "a", "n": n, "top_p": 0.9}
            assert client.completions.create(**fields).choices
            dying.close()
            assert len(client.completions.create(**fields).choices) == n


READ: dict[str, tuple[bytes, int]] = {
    "none": (b'data: {"usage":null}\n\ndata: {"a":1}\n\n', 37),
    "usage": (b'data: {"a":1}\n\ndata: {"usage":{"n":1}}\n\n', 15),
    "spaced usage": (b'data: {"a":1}\n\ndata: {"usage": {"n":1}}\n\n', 15),
    "error first": (b'data: {"error":{}}\n\ndata: {"a":1}\n\n', 0),
    "end": (b'data: {"a":1}\n\ndata: {"b":1}\n\ndata: [DONE]\n\n', 30),
    "a text about usage": (b'data: {"text":"\\"usage\\":{1}, \\"error\\":"}\n\n', 44),
}


@pytest.mark.parametrize("name", READ)
def test_events_are_read_from_the_first_that_has_to_be(name: str) -> None:
    events, size = READ[name]
    assert _unread(events) == size
