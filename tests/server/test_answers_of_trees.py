"""Whole and streamed answers through trees, by OpenAI's client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import openai
import pytest

from eager_sgl.server.app import create_app
from eager_sgl.server.plan import METHOD_NAMES
from eager_sgl.server.settings import EndpointSettings
from tests.fakes.decoding import DecodingServer
from tests.fakes.replicas import Replica
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.upstream import MODEL, endpoint, listening, upstream

CHAT: Any = [{"role": "user", "content": "a question"}]
TREES = [name for name in METHOD_NAMES if name not in ("parallel", "vote")]
ENDED = {"token_budget": 100, "deadline_s": 2.0}
OPTIONS: dict[str, Any] = {"eager_init": {"threshold": 1.0}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with endpoint(ScriptedServer(mixed_distribution(42))) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def asked(name: str, **fields: Any) -> dict[str, Any]:
    eager = {"method": name, "max_sequences": 6} | OPTIONS.get(name, {})
    return {"model": MODEL, "max_tokens": 30, "extra_body": {"eager": eager}} | fields


@pytest.mark.parametrize("name", TREES)
def test_a_method_gives_choices_and_its_whole_cost(client: openai.OpenAI, name: str) -> None:
    answer: Any = client.chat.completions.create(messages=CHAT, **asked(name))
    assert 1 <= len(answer.choices) == answer.eager["sequences"] <= 6
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    tokens = answer.eager["tokens"]
    assert answer.usage.completion_tokens == tokens["generated"]
    assert answer.usage.prompt_tokens == 1
    assert tokens["unique"] <= tokens["naive"]
    assert answer.eager["method"] == name
    assert 0 <= answer.eager["cached_share"] <= 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", [*TREES, None])
def test_more_tokens_than_the_context_leaves_are_refused_as_by_sglang(
    name: str | None, stream: bool
) -> None:
    """As for one sample, which the SGLang server's own route answers; None is the trie by `n`."""
    server = ScriptedServer(mixed_distribution(42), prompt=(9,) * 10)
    server.context_length = 300
    fields = asked(name) if name else {"model": MODEL, "n": 6}
    with (
        endpoint(server) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        ask = partial(client.chat.completions.create, messages=CHAT, stream=stream)
        with pytest.raises(openai.BadRequestError) as caught:
            ask(**fields | {"max_tokens": 291})
        assert (
            "context length of 300 tokens. You requested a total of 301 tokens: 10 tokens from the "
            "input messages and 291 tokens for the completion."
        ) in str(caught.value)
        assert caught.value.param == "max_tokens"
        assert [*ask(**fields | {"max_tokens": 290})]
        fields.pop("max_tokens", None)
        assert [*ask(**fields)], "the rest of the context"


@pytest.mark.parametrize("lengths", [(300, 10_000), (10_000, 300)])
def test_several_servers_have_the_smallest_context(lengths: tuple[int, int]) -> None:
    """A tree may move to any of them."""
    servers = [Replica("http://a"), Replica("http://b")]
    for server, length in zip(servers, lengths, strict=True):
        server.context_length = length
    with (
        listening(upstream(servers[0])) as first,
        listening(upstream(servers[1])) as second,
        listening(create_app(EndpointSettings(servers=(first, second), chat_defaults={}))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match="context length of 300 tokens"),
    ):
        client.chat.completions.create(messages=CHAT, **asked("trie_parallel", max_tokens=400))


def test_a_server_that_shortens_requests_is_asked_for_as_much_as_fits() -> None:
    server = ScriptedServer(mixed_distribution(42))
    server.context_length, server.allows_truncation = 300, True
    with (
        endpoint(server) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        fields = asked("trie_parallel", max_tokens=1000)
        assert client.chat.completions.create(messages=CHAT, **fields).choices


def test_reasoning_tokens_are_those_before_the_end_of_the_reasoning(client: openai.OpenAI) -> None:
    """Token 1 closes the reasoning of this server's model, and its texts are its tokens."""
    answer: Any = client.chat.completions.create(messages=CHAT, **asked("trie_parallel", n=6))
    texts = [choice.message.content.split() for choice in answer.choices]
    closed = [text[: text.index("1") + 1] for text in texts if "1" in text]
    assert closed
    prefixes = {tuple(text[:end]) for text in closed for end in range(1, len(text) + 1)}
    reasoning = answer.usage.completion_tokens_details.reasoning_tokens
    assert reasoning == len(prefixes) <= answer.usage.completion_tokens


def test_several_samples_go_through_the_trie_and_cost_less(client: openai.OpenAI) -> None:
    fields: Any = {"model": MODEL, "prompt": [9], "max_tokens": 30}
    answer: Any = client.completions.create(n=16, top_p=0.95, **fields)
    assert answer.eager["method"] == "trie_parallel"
    assert len(answer.choices) == 16
    assert answer.usage.completion_tokens < answer.eager["tokens"]["naive"]
    assert answer.eager["inexact_steps"] == 0


def test_the_model_may_name_the_method(client: openai.OpenAI) -> None:
    named = f"{MODEL}:best_first"
    answer: Any = client.completions.create(model=named, prompt="a", n=3, max_tokens=30)
    assert answer.eager["method"] == "best_first"
    assert answer.model == named


@pytest.mark.parametrize("interval_of", [1, 7])
@pytest.mark.parametrize("name", TREES)
def test_a_stream_gives_every_choice_whole(url: str, name: str, interval_of: int) -> None:
    """Each choice ends once, the text of its pieces is that of its tokens, and usage is last."""

    async def follow() -> tuple[dict[int, str], dict[int, str], Any]:
        texts: dict[int, str] = {}
        ends: dict[int, str] = {}
        last: Any = None
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            stream: Any = await client.chat.completions.create(
                messages=CHAT,
                stream=True,
                stream_options={"include_usage": True},
                **asked(name, seed=interval_of),
            )
            async for last in stream:
                for choice in last.choices:
                    assert choice.index not in ends
                    texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                    if choice.finish_reason is not None:
                        ends[choice.index] = choice.finish_reason
        return texts, ends, last

    texts, ends, last = asyncio.run(follow())
    assert sorted(texts) == sorted(ends) == list(range(last.eager["sequences"]))
    assert sum(len(text.split()) for text in texts.values()) <= last.eager["tokens"]["naive"]
    assert last.usage.completion_tokens == last.eager["tokens"]["generated"]


def test_branches_and_ends_are_events_of_their_own(client: openai.OpenAI) -> None:
    fields = asked("trie_parallel")
    fields["extra_body"]["eager"]["events"] = True
    kinds: list[str] = []
    stream: Any = client.completions.create(prompt=[9], stream=True, **fields)
    for piece in stream:
        kinds.append(piece.object)
    assert kinds.count("eager.finish") == 6
    assert "eager.branch" in kinds


def test_a_token_budget_ends_the_tree_with_what_it_has() -> None:
    with (
        endpoint(DecodingServer()) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client,
    ):
        fields = asked("trie_parallel", max_tokens=1000)
        fields["extra_body"]["eager"]["token_budget"] = 100
        answer: Any = client.completions.create(prompt=[9], **fields)
    assert answer.eager["stopped"] == "max_tokens"
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    # The requests of all samples report parts of 64 tokens, where the server has no gate.
    assert 100 <= answer.usage.completion_tokens <= 100 + 64 * 6


@pytest.mark.parametrize("option", ENDED)
@pytest.mark.parametrize("stream", [True, False])
def test_a_vote_that_is_ended_has_the_best_of_what_exists(option: str, stream: bool) -> None:
    eager = {"method": "vote", option: ENDED[option]}
    fields: Any = {"model": MODEL, "max_tokens": 5000, "extra_body": {"eager": eager}}
    usage: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    with (
        endpoint(DecodingServer()) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        answer: Any = client.completions.create(prompt=[9], **fields, **usage)
        parts = list(answer) if stream else [answer]
    assert parts[-1].eager["stopped"] == {"token_budget": "max_tokens"}.get(option, "timeout")
    assert parts[-1].eager["answer"] is None
    ends = [choice.finish_reason for part in parts for choice in part.choices]
    assert ends[-1:] == ["length"]
