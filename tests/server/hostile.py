"""Malformed and hostile requests, and what their answers must be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import strategies as st

from eager_sgl.server.schema import REFUSED, Chat, Completion, EagerOptions
from tests.server.upstream import MODEL

__all__ = ["Hostile", "fault_of", "requests"]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([0, 1, 2, -1, 0.5, 10**9, 10**400, "", "\x00", "\ud7ff", "😀", MODEL]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = sorted({*Chat.model_fields, *Completion.model_fields, *REFUSED, "unknown", ""})
OPTIONS = st.dictionaries(
    st.sampled_from([*EagerOptions.model_fields, "return", "other"]),
    VALUES | st.sampled_from(["trie_parallel", "eager_init", "best_first", "parallel", "vote"]),
    max_size=4,
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal", "video", ""])},
    optional={
        "text": st.text(max_size=8) | SCALARS,
        "image_url": VALUES | st.just({"url": "file:///etc/passwd"}),
        "input_audio": VALUES | st.just({"data": "!", "format": "wav"}),
        "file": VALUES,
    },
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "system", "developer", "assistant", "tool", "x"]),
            "content": st.text(max_size=8) | st.lists(PARTS, max_size=3) | SCALARS,
            "tool_calls": VALUES,
            "tool_call_id": SCALARS,
            "name": SCALARS,
        },
    )
    | SCALARS,
    max_size=3,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["function", "other"])},
        optional={
            "function": st.fixed_dictionaries(
                {"name": st.text(max_size=5)},
                optional={"parameters": VALUES, "strict": SCALARS},
            )
            | SCALARS
        },
    ),
    max_size=3,
)
STOPS = st.lists(st.text(max_size=3), max_size=40) | st.just("x" * 100_000) | VALUES
SCHEMAS = st.fixed_dictionaries(
    {"type": st.sampled_from(["json_schema", "json_object", "text", "regex"])},
    optional={"json_schema": VALUES},
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
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "messages": MESSAGES,
    "tools": TOOLS,
    "tool_choice": VALUES | st.sampled_from(["auto", "required", "none"]),
    "stop": STOPS,
    "response_format": SCHEMAS | VALUES,
    "n": st.sampled_from([-1, 0, 1, 129, 10**30, 1.5, "2", True]),
    "max_tokens": st.sampled_from([-1, 0, 1, 10**12, 1e308, "9"]),
    "temperature": st.floats(),
    "logit_bias": st.dictionaries(st.text(max_size=3), SCALARS, max_size=3),
    "prompt": st.lists(st.integers(-3, 10**12), max_size=4) | VALUES,
    "eager": OPTIONS,
    "model": st.sampled_from([MODEL, f"{MODEL}:vote", f"{MODEL}:x", ":", "a:b:c", "../x"]),
    "timeout": st.sampled_from([1e-9, 0, -1, 1e308, 5]),
}
RAW = st.sampled_from(
    [
        b"",
        b"\x00",
        b"\xff\xfe{}",
        b'{"model": "\xc3("}',
        b'{"model": "\\ud800", "prompt": "a"}',
        b'{"n": NaN, "prompt": "a"}',
        b'{"n": Infinity}',
        b'{"n": 1e999, "prompt": [9], "model": "scripted"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"n": 1, "n": -1, "n": "x", "model": "scripted", "prompt": [9]}',
        b'{"model": "scripted", "prompt": [9]} {}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"messages": ' + b"[" * 900 + b"]" * 900 + b', "model": "scripted"}',
        b'{"model": "scripted", "tools": ' + b'[{"a": ' * 400 + b"1" + b"}]" * 400 + b"}",
        b'{"model": "scripted", "prompt": [' + b"9," * 50_000 + b"9]}",
        b'{"' + b"k" * 1_000_000 + b'": 1}',
        b"prompt=a&model=scripted",
        b"null",
        b"1e5",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "authorization", "accept", "accept-encoding", "expect", "range", "x-a"]
    ),
    st.sampled_from(["", "text/plain", "Bearer \\", "*/*;q=x", "gzip, x", "bytes=0-", "a" * 9000]),
    max_size=2,
)


@dataclass(frozen=True)
class Hostile:
    """A request.

    Attributes:
        path: of a route, or of none.
        data: the body.
        headers: beside those of the client.
        is_stream: whether the body is an object that asks for a stream.
        may_time_out: whether it has a short deadline.
    """

    path: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    is_stream: bool = False
    may_time_out: bool = False


@st.composite
def _objects(draw: st.DrawFn) -> Hostile:
    path = draw(st.sampled_from([CHAT, COMPLETIONS]))
    without = {*draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=1))}
    without.add("prompt" if path == CHAT else "messages")
    body = {name: value for name, value in GOOD.items() if name not in without}
    for name in draw(st.lists(st.sampled_from(sorted(KNOWN)), max_size=2)):
        body[name] = draw(KNOWN[name])
    body |= draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=1))
    is_short = isinstance(body.get("timeout"), float | int)
    # NaN, infinities and halves of surrogate pairs as Python writes them.
    data = json.dumps(body).encode()
    return Hostile(path, data, draw(HEADERS), body.get("stream") is True, is_short)


@st.composite
def _spoilt(draw: st.DrawFn) -> Hostile:
    """A body of which some bytes are cut, repeated or replaced."""
    hostile = draw(_objects())
    start = draw(st.integers(0, len(hostile.data)))
    end = draw(st.integers(start, min(len(hostile.data), start + 20)))
    middle = draw(st.binary(max_size=4) | st.just(hostile.data[start:end] * 2))
    data = hostile.data[:start] + middle + hostile.data[end:]
    return Hostile(hostile.path, data, hostile.headers, may_time_out=True)


@st.composite
def _raw(draw: st.DrawFn) -> Hostile:
    path = draw(st.sampled_from([CHAT, COMPLETIONS, "/v1/models", "/v1/other", "/metrics"]))
    return Hostile(path, draw(RAW | st.binary(max_size=40)), draw(HEADERS))


requests: st.SearchStrategy[Hostile] = st.one_of(_objects(), _objects(), _spoilt(), _raw())


def fault_of(client: httpx.Client, hostile: Hostile) -> str | None:
    """What is wrong with the answer; None if nothing is.

    Raises:
        httpx.TransportError: there is none.
    """
    answer = client.post(hostile.path, content=hostile.data, headers=hostile.headers)
    allowed = {200, 400, 401, 404, 405, 413} | ({504} if hostile.may_time_out else set())
    if answer.status_code not in allowed:
        return f"status {answer.status_code}: {answer.text[:300]}"
    if answer.status_code != 200:
        return _form_fault(answer)
    if hostile.is_stream and not answer.text.endswith("data: [DONE]\n\n"):
        return f"the stream ends with {answer.text[-80:]!r}"
    return None


def _form_fault(answer: httpx.Response) -> str | None:
    """What an error lacks of OpenAI's form."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code} without OpenAI's form: {answer.text[:300]}"
    is_whole = set(error) == {"message", "type", "param", "code"} and error["message"]
    return None if is_whole else f"the error is {error}"
