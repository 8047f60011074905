"""Votes over HTTP: a scripted server whose texts have answers, requests, and their events."""

from __future__ import annotations

import json
from typing import Any

import httpx

from eager_sgl.engine.protocol import Json
from tests.fakes.scripted import EOS, Distribution, ScriptedServer
from tests.server.upstream import MODEL, endpoint

__all__ = [
    "CHAT",
    "TEXT",
    "TOOLS",
    "USAGE",
    "Boxing",
    "deltas_of",
    "events_of",
    "post",
    "two_answers",
    "vote",
]


class Boxing(ScriptedServer):
    """A server whose texts end with a box of their last token, and which reads calls in boxes."""

    def answer(self, path: str, body: Json | None = None) -> Json:
        if path == "/parse_function_call":
            assert body is not None
            name = body["tools"][0]["function"]["name"]
            text, _, rest = body["text"].partition(" \\boxed{")
            calls = [{"tool_index": 0, "name": name, "parameters": f'{{"x": {rest[0]}.0}}'}]
            return {"normal_text": text, "calls": calls if rest else []}
        answer = super().answer(path, body)
        if path == "/detokenize":
            texts = [text.split() for text in answer["text"]]
            texts = [[word for word in text if word != str(EOS)] for text in texts]
            answer["text"] = [f"{' '.join(t)} \\boxed{{{t[-1]}}}" if t else "" for t in texts]
        return answer | {"tool_call_parser": "of_boxes"} if path == "/server_info" else answer


def two_answers(second: float) -> Distribution:
    """Token 2, or 3 with a probability, then EOS."""

    def distribution(path: tuple[int, ...]) -> tuple[float, ...]:
        if path:
            return (1 - 4e-9, 1e-9, 1e-9, 1e-9, 1e-9)
        return (1e-9, 1e-9, 1 - second, second, 1e-9)

    return distribution


CHAT: Json = {"messages": [{"role": "user", "content": "a"}]}
TOOLS: Json = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
TEXT: Json = {"prompt": [9]}


def post(second: float, fields: Json, server: ScriptedServer | None = None) -> httpx.Response:
    body = {"model": f"{MODEL}:vote", "max_tokens": 5, "temperature": 1.0} | fields
    route = "chat/completions" if "messages" in fields else "completions"
    with endpoint(server or Boxing(two_answers(second))) as url:
        return httpx.post(f"{url}/v1/{route}", json=body, timeout=30)


def vote(second: float, **fields: Any) -> Any:
    answer = post(second, TEXT | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(response: httpx.Response) -> list[Any]:
    lines = [line for line in response.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line[6:]) for line in lines]


def deltas_of(response: httpx.Response) -> list[Json]:
    events = events_of(response)
    return [choice["delta"] for event in events for choice in event["choices"]]


USAGE: Json = {"stream": True, "stream_options": {"include_usage": True}}
