"""DSPy's language model."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy

from tests.integration.clients.features.endpoint import (
    EASY,
    OPEN,
    Case,
    Endpoint,
    chat_of,
    require_right,
)

__all__ = ["CASES"]


def _lm(endpoint: Endpoint, suffix: str = "", **options: Any) -> Any:
    return dspy.LM(
        f"openai/{endpoint.model}{suffix}",
        api_base=endpoint.base_url,
        api_key="none",
        cache=False,
        **options,
    )


def call(endpoint: Endpoint) -> None:
    lm = _lm(endpoint, temperature=0)
    (text,) = lm(EASY)
    require_right(text)
    assert lm.history[-1]["usage"]["completion_tokens"] > 5


def messages(endpoint: Endpoint) -> None:
    (text,) = _lm(endpoint, temperature=0)(messages=chat_of(EASY))
    require_right(text)


def acall(endpoint: Endpoint) -> None:
    (text,) = asyncio.run(_lm(endpoint, temperature=0).acall(EASY))
    require_right(text)


def n(endpoint: Endpoint) -> None:
    assert len(_lm(endpoint, n=8, temperature=1.0)(OPEN)) == 8


def vote(endpoint: Endpoint) -> None:
    lm = _lm(endpoint, ":vote", extra_body={"eager": {"max_sequences": 8}})
    require_right(lm(EASY)[0])
    assert lm.history[-1]["response"].eager["method"] == "vote"


def texts(endpoint: Endpoint) -> None:
    """The route of completions."""
    assert _lm(endpoint, model_type="text", max_tokens=5)(EASY)


CASES: list[Case] = [call, messages, acall, n, vote, texts]
