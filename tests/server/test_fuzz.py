"""Malformed and hostile bodies: every one is answered or refused in OpenAI's form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eager_sgl.server.schema import REFUSED, Chat, Completion, EagerOptions
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.upstream import MODEL, endpoint

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from([0, 1, 2, -1, 0.5, 10**9, "", "\x00", "\ud7ff", "😀", MODEL]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = sorted({*Chat.model_fields, *Completion.model_fields, *REFUSED, "unknown", ""})
OPTIONS = st.dictionaries(
    st.sampled_from([*EagerOptions.model_fields, "return", "other"]),
    SCALARS | st.sampled_from(["trie_parallel", "eager_init", "best_first", "parallel", "vote"]),
    max_size=4,
)
GOOD: dict[str, Any] = {
    "model": MODEL,
    "prompt": [9],
    "messages": [{"role": "user", "content": "a"}],
    "max_tokens": 5,
    "n": 2,
    "top_p": 0.9,
    "stream": True,
}
ROUTES = {"/v1/completions": "messages", "/v1/chat/completions": "prompt"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        endpoint(ScriptedServer(mixed_distribution(42))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(
    st.sampled_from(sorted(ROUTES)),
    st.lists(st.sampled_from(sorted(GOOD)), max_size=3),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
    st.none() | OPTIONS,
)
def test_no_body_is_an_internal_error(
    client: httpx.Client, route: str, without: list[str], changed: dict[str, Any], eager: Any
) -> None:
    body = {k: v for k, v in GOOD.items() if k not in {*without, ROUTES[route]}} | changed
    if eager is not None:
        body["eager"] = eager
    answer = client.post(route, json=body)
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    elif body.get("stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
