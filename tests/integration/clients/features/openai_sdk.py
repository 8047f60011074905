"""OpenAI's client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from tests.integration.clients.features.endpoint import (
    EASY,
    OPEN,
    Case,
    Endpoint,
    chat_of,
    require_right,
)

__all__ = ["CASES"]

TOOL: Any = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
}


def _client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0)


def models(endpoint: Endpoint) -> None:
    names = [model.id for model in _client(endpoint).models.list()]
    assert {endpoint.model, f"{endpoint.model}:vote"} <= set(names)


def chat(endpoint: Endpoint) -> None:
    answer = _client(endpoint).chat.completions.create(
        model=endpoint.model, messages=chat_of(EASY), temperature=0
    )
    require_right(answer.choices[0].message.content)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 5


def chat_async(endpoint: Endpoint) -> None:
    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key="none") as client:
            requests = [
                client.chat.completions.create(
                    model=endpoint.model, messages=chat_of(EASY), temperature=0
                )
                for _ in range(8)
            ]
            return await asyncio.gather(*requests)

    for answer in asyncio.run(ask()):
        require_right(answer.choices[0].message.content)


def stream(endpoint: Endpoint) -> None:
    pieces: Any = list(
        _client(endpoint).chat.completions.create(
            model=endpoint.model,
            messages=chat_of(EASY),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    contents = [choice.delta.content or "" for piece in pieces for choice in piece.choices]
    require_right("".join(contents))
    assert pieces[-1].usage.completion_tokens > 5
    assert pieces[-1].eager["method"] == "parallel"


def stream_accumulated(endpoint: Endpoint) -> None:
    """The client puts the pieces together, and checks their form."""
    with _client(endpoint).chat.completions.stream(
        model=endpoint.model, messages=chat_of(EASY), temperature=0
    ) as events:
        assert any(event.type == "content.delta" for event in events)
        answer = events.get_final_completion()
    require_right(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"


def n(endpoint: Endpoint) -> None:
    answer: Any = _client(endpoint).chat.completions.create(
        model=endpoint.model, messages=chat_of(OPEN), n=16
    )
    assert [choice.index for choice in answer.choices] == list(range(16))
    assert answer.eager["method"] == "trie_parallel"
    tokens = answer.eager["tokens"]
    assert answer.usage.completion_tokens == tokens["generated"] < tokens["naive"]


def n_stream(endpoint: Endpoint) -> None:
    texts: dict[int, str] = {}
    for piece in _client(endpoint).chat.completions.create(
        model=endpoint.model, messages=chat_of(OPEN), n=4, stream=True
    ):
        for choice in piece.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert sorted(texts) == [0, 1, 2, 3]
    assert all(texts.values())


def vote(endpoint: Endpoint) -> None:
    answer: Any = _client(endpoint).chat.completions.create(
        model=f"{endpoint.model}:vote",
        messages=chat_of(EASY),
        extra_body={"eager": {"max_sequences": 8}},
    )
    assert len(answer.choices) == 1
    assert answer.eager["method"] == "vote"
    assert "votes" in answer.eager


def eager_options(endpoint: Endpoint) -> None:
    eager = {"method": "eager_init", "max_sequences": 4, "threshold": 1.0}
    answer: Any = _client(endpoint).chat.completions.create(
        model=endpoint.model, messages=chat_of(EASY), extra_body={"eager": eager}
    )
    assert answer.eager["method"] == "eager_init"
    assert 1 <= len(answer.choices) <= 4


def tools(endpoint: Endpoint) -> None:
    """The bundled model calls none."""
    answer = _client(endpoint).chat.completions.create(
        model=endpoint.model,
        messages=chat_of(EASY),
        temperature=0,
        tools=[TOOL],
        tool_choice="auto",
    )
    require_right(answer.choices[0].message.content)
    assert not answer.choices[0].message.tool_calls


def logprobs(endpoint: Endpoint) -> None:
    answer: Any = _client(endpoint).chat.completions.create(
        model=endpoint.model, messages=chat_of(EASY), logprobs=True, top_logprobs=2
    )
    steps = answer.choices[0].logprobs.content
    assert len(steps) >= answer.usage.completion_tokens - 1
    assert all(len(step.top_logprobs) == 2 and step.logprob <= 0 for step in steps)


def stop(endpoint: Endpoint) -> None:
    answer = _client(endpoint).chat.completions.create(
        model=endpoint.model, messages=chat_of(EASY), stop=["="]
    )
    assert "=" not in (answer.choices[0].message.content or "")


def completions(endpoint: Endpoint) -> None:
    answer = _client(endpoint).completions.create(
        model=endpoint.model, prompt=[EASY, OPEN], n=2, max_tokens=5, logprobs=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.text and choice.logprobs for choice in answer.choices)


def completions_stream(endpoint: Endpoint) -> None:
    pieces = _client(endpoint).completions.create(
        model=endpoint.model, prompt=EASY, n=2, max_tokens=5, top_p=0.95, stream=True
    )
    indices = {choice.index for piece in pieces for choice in piece.choices if choice.text}
    assert indices == {0, 1}


def token_ids(endpoint: Endpoint) -> None:
    answer = _client(endpoint).completions.create(
        model=f"{endpoint.model}:trie_parallel", prompt=[1, 2, 8, 9], n=2, max_tokens=5
    )
    assert len(answer.choices) == 2


def errors(endpoint: Endpoint) -> None:
    """They are those of the client, with the endpoint's sentence."""
    unknown = _error(endpoint, model="none")
    assert isinstance(unknown, openai.NotFoundError)
    assert endpoint.model in unknown.message
    refused = _error(endpoint, model=endpoint.model, extra_body={"eager": {"m": 1}})
    assert isinstance(refused, openai.BadRequestError)
    assert "max_sequences" in refused.message


def _error(endpoint: Endpoint, **options: Any) -> openai.APIStatusError | None:
    try:
        _client(endpoint).chat.completions.create(messages=chat_of(EASY), **options)
    except openai.APIStatusError as error:
        return error
    return None


CASES: list[Case] = [
    *(models, chat, chat_async, stream, stream_accumulated, n, n_stream, vote, eager_options),
    *(tools, logprobs, stop, completions, completions_stream, token_ids, errors),
]
