"""Our OpenAI-compatible server in front of the embedded runtime, with OpenAI's client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from eager_sgl import AsyncClient
from eager_sgl.engine.protocol import tokens_of
from eager_sgl.server.app import create_app
from eager_sgl.server.facts import Facts
from eager_sgl.server.settings import EndpointSettings
from eager_sgl.server.voting.readers import ToolMessage, ToolParser
from eager_sgl.voting.answers import canonical_json
from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer
from tests.conftest import API_KEY
from tests.fakes.waiting import wait_until
from tests.faults.servers import num_requests
from tests.server.upstream import listening

pytestmark = pytest.mark.integration

EASY = Problem((7, 5), 12, level=1)
MESSAGES: Any = [{"role": "user", "content": instruction(EASY)}]
OPEN: Any = [{"role": "user", "content": instruction(Problem((3, 4, 6, 9), 21, level=3))}]


@pytest.fixture(scope="module")
def url(server_url: str) -> Iterator[str]:
    with listening(create_app(EndpointSettings(servers=(server_url,), server_key=API_KEY))) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def is_right(text: str | None) -> bool:
    answer = parse_answer(text or "")
    return answer is not None and is_correct(EASY, answer)


@pytest.mark.parametrize("method", ["trie_parallel", "best_first", "eager_init", "parallel"])
def test_every_method_answers(client: openai.OpenAI, model: str, method: str) -> None:
    eager: dict[str, Any] = {"method": method, "max_sequences": 4}
    if method == "eager_init":
        eager["threshold"] = 1.0
    answer: Any = client.chat.completions.create(
        model=model, messages=MESSAGES, extra_body={"eager": eager}
    )
    assert answer.eager["method"] == method
    assert any(is_right(choice.message.content) for choice in answer.choices)
    assert answer.usage.completion_tokens == answer.eager["tokens"]["generated"]


def test_an_answer_beyond_the_context_is_refused_in_the_same_words_by_every_route(
    client: openai.OpenAI, model: str
) -> None:
    """SGLang's own message for one sample, and ours for trees."""
    messages = []
    for fields in ({}, {"n": 4}, {"extra_body": {"eager": {"method": "best_first"}}}):
        asked: dict[str, Any] = {"model": model, "messages": MESSAGES, "max_tokens": 1020} | fields
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**asked)
        assert isinstance(caught.value.body, dict)
        messages.append(caught.value.body["message"].removeprefix("SGLang: "))
    assert "maximum context length of 1024 tokens" in messages[0]
    assert len({*messages}) == 1


def test_several_samples_go_through_the_trie_by_the_models_own_defaults(
    client: openai.OpenAI, model: str
) -> None:
    answer: Any = client.chat.completions.create(model=model, messages=OPEN, n=16)
    assert answer.eager["method"] == "trie_parallel"
    assert len(answer.choices) == 16
    assert answer.usage.completion_tokens < answer.eager["tokens"]["naive"]


FIELDS: dict[str, dict[str, Any]] = {
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "stop": {"stop": ["="]},
    "truncated": {"extra_body": {"top_k": 5, "min_p": 0.01}},
    "penalties": {"presence_penalty": 0.01},
}


@pytest.mark.parametrize("name", FIELDS)
def test_other_fields_are_honoured_by_the_servers_route(
    client: openai.OpenAI, model: str, name: str
) -> None:
    answer: Any = client.chat.completions.create(
        model=model, messages=MESSAGES, n=2, **FIELDS[name]
    )
    assert answer.eager["method"] == "parallel"
    assert len(answer.choices) == 2
    if name == "stop":
        assert all("=" not in choice.message.content for choice in answer.choices)
    if name == "logprobs":
        assert all(choice.logprobs.content for choice in answer.choices)


@pytest.mark.parametrize("n", [1, 4])
def test_streams_are_live(url: str, model: str, n: int) -> None:
    """The parts of a tree have 64 tokens, so its sequences are longer ones."""
    messages = MESSAGES if n == 1 else OPEN

    async def follow() -> tuple[dict[int, str], int, Any]:
        texts: dict[int, str] = {}
        num_pieces, last = 0, None
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            stream: Any = await client.chat.completions.create(
                model=model,
                messages=messages,
                n=n,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for last in stream:
                for choice in last.choices:
                    texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                    num_pieces += bool(choice.delta.content)
        return texts, num_pieces, last

    texts, num_pieces, last = asyncio.run(follow())
    assert sorted(texts) == list(range(n))
    assert all(texts.values())
    assert num_pieces > n
    assert last.usage.completion_tokens > 0


def test_a_stop_string_is_never_half_sent(client: openai.OpenAI, model: str) -> None:
    """The chains of this problem compare with ~12 at every step."""
    texts: dict[int, str] = {}
    stream: Any = client.chat.completions.create(
        model=model, messages=MESSAGES, n=4, stop=["~12"], stream=True
    )
    for choice in (choice for piece in stream for choice in piece.choices):
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert len(texts) == 4
    assert all(texts.values())
    assert not [text for text in texts.values() if text.endswith(("~", "~1")) or "~12" in text]


def test_the_trie_has_the_law_of_the_servers_own_samples(client: openai.OpenAI, model: str) -> None:
    """Of the first 24 tokens of 192 samples each; two such samples of one law differ by < 0.3."""
    laws = []
    fields: Any = {"model": model, "messages": OPEN, "n": 64, "max_tokens": 24, "temperature": 0.6}
    for suffix in ("parallel", "trie_parallel"):
        named = fields | {"model": f"{model}:{suffix}", "top_p": 0.95}
        answers = [client.chat.completions.create(**named) for _ in range(3)]
        laws.append(Counter(c.message.content[:12] for a in answers for c in a.choices))
    first, second = laws
    assert sum(first.values()) == sum(second.values()) == 192
    texts = first.keys() | second.keys()
    assert sum(abs(first[text] - second[text]) for text in texts) / 384 < 0.3


@pytest.mark.parametrize("returned", ["best", "all"])
def test_a_vote_finds_the_answer_of_most_samples(
    client: openai.OpenAI, model: str, returned: str
) -> None:
    eager = {"answer": {"regex": r"[^\s].*"}, "max_sequences": 12, "return": returned}
    answer: Any = client.chat.completions.create(
        model=f"{model}:vote", messages=MESSAGES, extra_body={"eager": eager}
    )
    assert is_right(f"</think>{answer.eager['answer']}")
    assert 4 <= answer.eager["sequences"] <= 12
    assert answer.eager["confidence"] > 0.95 or answer.eager["sequences"] == 12
    assert len(answer.choices) == (1 if returned == "best" else answer.eager["sequences"])
    chosen = answer.choices[0 if returned == "best" else answer.eager["chosen"]]
    assert chosen.message.content.endswith(answer.eager["answer"])
    details = answer.usage.completion_tokens_details
    assert 0 < details.reasoning_tokens < answer.usage.completion_tokens


def test_a_vote_streams_its_first_sequence_and_ends_with_the_winner(
    client: openai.OpenAI, model: str
) -> None:
    eager = {"answer": {"regex": r"[^\s].*"}, "events": True}
    stream: Any = client.chat.completions.create(
        model=f"{model}:vote",
        messages=OPEN,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"eager": eager},
    )
    kinds: Counter[str] = Counter()
    content, reasoning, last = "", "", None
    for last in stream:
        kinds[last.object] += 1
        for choice in last.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
    assert last is not None
    assert content.endswith(last.eager["answer"])
    assert "</think>" in reasoning  # the server has no reasoning parser
    assert kinds["eager.finish"] == last.eager["sequences"]
    assert 1 <= kinds["eager.vote"] <= last.eager["sequences"]


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1.0}}\n</tool_call>'
TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def test_calls_of_tools_are_read_by_the_servers_parser(server_url: str) -> None:
    """The bundled model has no brace, so that the text of its sequence is given by hand."""

    async def read() -> tuple[ToolMessage, tuple[int, ...]]:
        async with AsyncClient(server_url, api_key=API_KEY) as client:
            facts = Facts(model="m", profile=client.profile, tool_call_parser="qwen25")
            parser = ToolParser(client, facts)
            asked = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": "auto"}
            replicas = await client.replicas()
            prompt = await replicas.call(
                lambda c: c.transport.post("/tokenize", lambda: asked, tokens_of)
            )
            return await replicas.call(lambda c: parser.parse(c, f"So: {CALL}", TOOLS)), prompt

    (text, calls), prompt = asyncio.run(read())
    assert text.strip() == "So:"
    assert [(call.name, canonical_json(call.arguments)) for call in calls] == [("f", '{"x":1}')]
    assert prompt


@pytest.mark.parametrize("suffix", ["trie_parallel", "parallel"])
def test_a_client_that_leaves_ends_its_requests_on_the_server(
    url: str, server_url: str, model: str, suffix: str
) -> None:
    body = {"model": f"{model}:{suffix}", "prompt": [1, 2, 8, 9], "n": 4, "max_tokens": 1000}
    if suffix == "parallel":
        body["ignore_eos"] = True
    with httpx.stream("POST", f"{url}/v1/completions", json=body | {"stream": True}) as response:
        assert response.is_success
        next(response.iter_lines())
    assert wait_until(lambda: num_requests(server_url, API_KEY) == 0, 20)
