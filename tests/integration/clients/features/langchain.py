"""LangChain's chat models and texts."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAI

from tests.integration.clients.features.endpoint import EASY, OPEN, Case, Endpoint, require_right

__all__ = ["CASES"]


def _model(endpoint: Endpoint, suffix: str = "", **options: Any) -> Any:
    return ChatOpenAI(
        model=f"{endpoint.model}{suffix}", base_url=endpoint.base_url, api_key="none", **options
    )


def invoke(endpoint: Endpoint) -> None:
    answer = _model(endpoint, temperature=0).invoke(EASY)
    require_right(answer.content)
    assert answer.usage_metadata["output_tokens"] > 5


def ainvoke(endpoint: Endpoint) -> None:
    require_right(asyncio.run(_model(endpoint, temperature=0).ainvoke(EASY)).content)


def stream(endpoint: Endpoint) -> None:
    pieces = list(_model(endpoint, temperature=0, stream_usage=True).stream(EASY))
    assert len(pieces) > 2
    require_right("".join(piece.content for piece in pieces))
    assert sum((piece.usage_metadata or {}).get("output_tokens", 0) for piece in pieces) > 5


def batch(endpoint: Endpoint) -> None:
    for answer in _model(endpoint, temperature=0).batch([EASY] * 4):
        require_right(answer.content)


def n(endpoint: Endpoint) -> None:
    result = _model(endpoint, n=8).generate([[HumanMessage(OPEN)]])
    assert len(result.generations[0]) == 8
    assert result.llm_output["token_usage"]["completion_tokens"] > 8


def vote(endpoint: Endpoint) -> None:
    options = {"extra_body": {"eager": {"max_sequences": 8}}}
    answer = _model(endpoint, ":vote", **options).invoke(EASY)
    require_right(answer.content)


def logprobs(endpoint: Endpoint) -> None:
    answer = _model(endpoint, logprobs=True, top_logprobs=2).invoke(EASY)
    assert len(answer.response_metadata["logprobs"]["content"]) > 5


def tools(endpoint: Endpoint) -> None:
    def add(first: int, second: int) -> int:
        """Add two numbers."""
        return first + second

    answer = _model(endpoint, temperature=0).bind_tools([add]).invoke(EASY)
    require_right(answer.content)
    assert not answer.tool_calls


def texts(endpoint: Endpoint) -> None:
    """The route of completions."""
    model: Any = OpenAI(
        model=endpoint.model, base_url=endpoint.base_url, api_key="none", max_tokens=5
    )
    assert model.invoke(EASY)


CASES: list[Case] = [invoke, ainvoke, stream, batch, n, vote, logprobs, tools, texts]
