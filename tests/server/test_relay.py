"""Requests that the SGLang server's own routes answer."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from eager_sgl.server.app import create_app
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


def test_the_answer_says_why_it_is_not_of_the_trie(client: openai.OpenAI) -> None:
    answer: Any = client.completions.create(model=MODEL, prompt="a", n=2, stop=".", top_p=0.9)
    assert "stop" in answer.eager["reason"]
    assert [choice.index for choice in answer.choices] == [0, 1]


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream_has_usage_if_it_is_wanted(client: openai.OpenAI, wants_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    pieces: list[Any] = list(
        client.chat.completions.create(model=MODEL, messages=CHAT, n=2, stream=True, **options)
    )
    assert {c.index for piece in pieces for c in piece.choices} == {0, 1}
    assert bool(getattr(pieces[-1], "eager", None)) == wants_usage
    assert (pieces[-1].usage is not None) == wants_usage


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_keeps_its_status_and_message(client: openai.OpenAI, stream: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="the message of SGLang"):
        client.chat.completions.create(model=MODEL, messages=CHAT, temperature=1.5, stream=stream)


def test_samples_through_the_trie_have_the_law_of_the_servers_own(client: openai.OpenAI) -> None:
    """400 samples each; the distance of two such samples of one law is below 0.2 (p < 0.001)."""
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
    assert sum(abs(first[text] - second[text]) for text in texts) / 800 < 0.2


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
