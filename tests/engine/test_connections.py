"""Connections are shared by threads, and streams are read event by event; over real HTTP."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from eager_sgl import errors
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import as_object
from eager_sgl.engine.transport import Transport
from tests.engine.outcomes import outcome_of, without_aborts
from tests.fakes.http_server import ABORT, serving, streaming


def test_waiting_requests_share_a_thread() -> None:
    number = 50

    async def ask_all(transport: Transport) -> list[Json]:
        asking = (transport.post("/generate", dict, as_object) for _ in range(number))
        answers = asyncio.gather(*asking)
        await asyncio.sleep(0.3)
        assert len([t for t in threading.enumerate() if t.name == "eager_sgl.io"]) == 1
        return await answers

    with serving((200, '{"done": 1}'), delay=0.5) as (url, _):
        assert run(ask_all(Transport(url))) == [{"done": 1}] * number


def test_the_connection_is_kept_and_the_key_is_sent() -> None:
    with serving((200, "{}")) as (url, seen):
        transport = Transport(url, api_key="secret")
        run(transport.post("/generate", dict))
        run(transport.post("/generate", dict))
    assert len({request.client_port for request in seen}) == 1
    assert {request.key for request in seen} == {"Bearer secret"}


def _tokenize(transport: Transport, answers: Any) -> None:
    answers.put(run(transport.post("/tokenize", dict)))


def test_a_forked_child_opens_new_connections() -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with serving((200, '{"done": 1}')) as (url, seen):
        transport = Transport(url)
        run(transport.post("/tokenize", dict))
        children = [
            context.Process(target=_tokenize, args=(transport, answers), daemon=True)
            for _ in range(3)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(20)
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert run(transport.post("/tokenize", dict)) == {"done": 1}
    assert [answers.get() for _ in children] == [{"done": 1}] * 3
    parents = {seen[0].client_port, seen[-1].client_port}
    assert len(parents) == 1
    assert len({request.client_port for request in seen}) == 4


def test_a_notice_reaches_the_server() -> None:
    with serving((200, "{}")) as (url, seen):
        run(Transport(url).notify(ABORT, {"rid": "mine"}))
    assert [request.body for request in seen] == [{"rid": "mine"}]


# Streams


def event(finish: str | None = None, tokens: Sequence[int] = (3,)) -> str:
    reason = finish and {"type": finish}
    meta = {"finish_reason": reason, "prompt_tokens": 1, "cached_tokens": 0}
    return "data: " + json.dumps({"output_ids": list(tokens), "meta_info": meta}) + "\n\n"


DONE = "data: [DONE]\n\n"
EVENTS = "text/event-stream"


def test_events_are_passed_on_at_once_and_the_last_is_the_answer() -> None:
    first, last = event(tokens=[3]), event("stop", tokens=[3, 4, 0])
    cut = len(last) // 2
    with streaming(first, last[:cut], last[cut:] + DONE) as (url, release):
        received = []

        def receive(answer: Json) -> None:
            received.append(answer["output_ids"])
            release()
            release()

        answer = run(Transport(url).post("/generate", dict, progress=receive))
    assert received == [[3]]
    assert answer["output_ids"] == [3, 4, 0]


def test_an_event_may_be_longer_than_any_buffer() -> None:
    tokens = list(range(100_000))
    with streaming(event("stop", tokens=tokens) + DONE) as (url, _):
        assert run(Transport(url).post("/generate", dict))["output_ids"] == tokens


@pytest.mark.parametrize(
    "last",
    [
        "",
        "data: {",
        "data: <html>\n\n",
        "data: []\n\n",
        "data: {}\n\n",
        'data: {"meta_info": 3}\n\n',
    ],
)
def test_a_broken_stream_is_not_repeated_after_an_event_was_passed_on(last: str) -> None:
    tries = []

    def build() -> Json:
        tries.append(1)
        return {}

    with streaming(event(), *([last] if last else [])) as (url, release):
        outcome = outcome_of(Transport(url), build, lambda _: release())
    assert isinstance(outcome, errors.BrokenAnswerError)
    assert len(tries) == 1


@pytest.mark.parametrize("first", ["", "data: {}\n\n", 'data: {"meta_info": {}}\n\n', event()[:20]])
def test_a_broken_stream_is_repeated_before_an_event_was_passed_on(first: str) -> None:
    replies = [(200, first), (200, first), (200, event("stop", tokens=[7]) + DONE)]
    with serving(*replies, kind=EVENTS) as (url, seen):
        answer = outcome_of(Transport(url), progress=lambda part: None)
    assert answer["output_ids"] == [7]
    assert len(without_aborts(seen)) == 3


def test_a_server_that_is_too_busy_to_start_a_stream_is_tried_again() -> None:
    busy = event("abort").replace('"abort"', '"abort", "status_code": 503, "message": "queue full"')
    with serving(
        (200, busy + DONE), (200, busy + DONE), (200, event("stop", tokens=[7]) + DONE), kind=EVENTS
    ) as (url, seen):
        assert run(Transport(url).post("/generate", dict))["output_ids"] == [7]
    assert len(seen) == 3
    full = pytest.raises(errors.ServerError, match="queue full")
    with serving((200, busy + DONE), kind=EVENTS) as (url, _), full:
        run(Transport(url).post("/generate", dict))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "too long", "code": 400}, errors.RequestRejectedError),
        ({"message": "too long"}, errors.RequestRejectedError),
        ("too long", errors.RequestRejectedError),
        ({"message": "too long", "code": 500}, errors.ServerError),
    ],
)
def test_a_refusal_inside_a_stream_is_a_refusal(error: object, kind: type[Exception]) -> None:
    refusal = f"data: {json.dumps({'error': error})}\n\n"
    refused = pytest.raises(kind, match="too long")
    with serving((200, refusal + DONE), kind=EVENTS) as (url, _), refused:
        run(Transport(url).post("/generate", dict))
