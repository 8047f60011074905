"""Every fault has its exception, and lost requests are repeated; over real HTTP."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from eager_sgl import errors
from eager_sgl.embedded.address import DEFAULT_HOST, reserved_port
from eager_sgl.engine import limits
from eager_sgl.engine.limits import PATIENT, PAUSE_JITTER
from eager_sgl.engine.loop import io_loop, run
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import as_object
from eager_sgl.engine.transport import Transport
from tests.engine.outcomes import outcome_of, without_aborts
from tests.fakes.http_server import ABORT, Handler, Seen, hanging, listening, serving

NUM_TRIES = len(PATIENT.pauses) + 1


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, '{"error": "Unauthorized"}', errors.AuthenticationError, "--api-key"),
        (403, "", errors.AuthenticationError, "--api-key"),
        (400, '{"error": {"message": "too long"}}', errors.RequestRejectedError, "too long"),
        (404, "<html>", errors.RequestRejectedError, "no message"),
        (413, "too large", errors.RequestRejectedError, "too large"),
        (422, '{"detail": "no field"}', errors.RequestRejectedError, "no field"),
        (501, "never", errors.ServerError, "HTTP 501.*never"),
    ],
)
def test_a_refusal_has_its_exception_and_is_not_repeated(
    status: int, body: str, error: type[Exception], said: str
) -> None:
    with serving((status, body)) as (url, seen):
        with pytest.raises(error, match=said):
            run(Transport(url).post("/generate", dict))
        assert isinstance(outcome_of(Transport(url)), error)
    assert len(seen) == 2


LOST = {
    "reset": (None, ""),
    "too many requests": (429, "{}"),
    "internal error": (500, "boom"),
    "bad gateway": (502, "<html>"),
    "overloaded": (503, "{}"),
    "gateway time-out": (504, ""),
    "no JSON": (200, "<html>"),
    "nothing": (200, ""),
    "half of it": (200, '{"done": '),
    "a list": (200, "[]"),
    "null": (200, "null"),
    "a text": (200, '"done"'),
}


@pytest.mark.parametrize("kind", LOST)
def test_a_lost_request_is_repeated_with_a_new_id(kind: str) -> None:
    ids = iter("abc")
    with serving(LOST[kind], LOST[kind], (200, '{"done": 1}')) as (url, seen):
        assert run(Transport(url).post("/generate", lambda: {"rid": next(ids)})) == {"done": 1}
    assert [request.body["rid"] for request in without_aborts(seen)] == ["a", "b", "c"]
    aborted = [request.body["rid"] for request in seen if request.path == ABORT]
    assert aborted == ([] if kind in ("too many requests", "overloaded") else ["a", "b"])


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("reset", errors.ServerUnreachableError, "closed the connection before"),
        ("internal error", errors.ServerError, "HTTP 500.*boom"),
        ("no JSON", errors.MalformedAnswerError, "not an SGLang server.*<html>"),
        ("null", errors.MalformedAnswerError, "None is no JSON object"),
    ],
)
def test_the_error_of_the_last_try_has_the_number_of_tries(
    kind: str, error: type[Exception], said: str
) -> None:
    with serving(LOST[kind]) as (url, seen):
        with pytest.raises(error, match=f"{said}.*tried {NUM_TRIES} times in \\d+ s"):
            run(Transport(url).post("/tokenize", dict))
        assert isinstance(outcome_of(Transport(url)), error)
    assert len(without_aborts(seen)) == 2 * NUM_TRIES


def test_a_body_shorter_than_its_content_length_is_lost() -> None:
    lengths = iter([30, 30, 11])

    class Server(Handler):
        def reply(self, request: Seen) -> None:
            self.close_connection = True
            self.send(200, b'{"done": 1}', length=next(lengths))

    with listening(Server) as url:
        assert run(Transport(url).post("/generate", dict)) == {"done": 1}


def test_seven_tries_take_about_half_a_minute() -> None:
    assert NUM_TRIES == 7
    shortest, longest = (factor * sum(PATIENT.pauses) for factor in PAUSE_JITTER)
    assert 20 < shortest < longest < 60
    first = limits.FIRST_CONTACT
    assert first.timeout is not None
    longest = PAUSE_JITTER[1] * sum(first.pauses) + (len(first.pauses) + 1) * first.timeout
    assert 10 < longest < 20


def test_a_server_that_restarts_is_reached_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAUSE_JITTER", (0.1, 0.1))

    class Server(Handler):
        def reply(self, request: Seen) -> None:
            self.send(200, b'{"done": 1}')

    with reserved_port(DEFAULT_HOST, 0) as port:
        asking = Transport(f"http://127.0.0.1:{port}").post("/generate", dict, as_object)
        answer = asyncio.run_coroutine_threadsafe(asking, io_loop())
        time.sleep(0.3)
        with listening(Server, port):
            assert answer.result(timeout=30) == {"done": 1}


def test_a_closed_port_is_reported_in_one_sentence() -> None:
    with reserved_port(DEFAULT_HOST, 0) as port:
        closed = Transport(f"http://127.0.0.1:{port}")
        with pytest.raises(errors.ServerUnreachableError, match=f":{port}.*refused; tried 7 times"):
            run(closed.get("/model_info"))
        assert not run(closed.is_answering())


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        ((200, "{}"), True),
        ((401, ""), True),
        ((404, ""), True),
        ((500, ""), False),
        ((503, ""), False),
        ((None, ""), False),
    ],
)
def test_a_server_is_checked_with_a_single_request(
    reply: tuple[int | None, str], answers: bool
) -> None:
    with serving(reply) as (url, seen):
        assert run(Transport(url).is_answering()) is answers
    assert len(seen) <= 2  # aiohttp itself sends a GET again whose connection was closed


def test_a_hanging_server_is_not_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALIVE_TIMEOUT", 0.2)
    with hanging() as url:
        assert not run(Transport(url).is_answering())


def test_a_server_of_another_protocol_is_named_on_one_line() -> None:
    class Shell(Handler):
        def reply(self, request: Seen) -> None:
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            self.hang_up()

    unreachable = pytest.raises(errors.ServerUnreachableError, match="is no readable HTTP")
    with listening(Shell) as url, unreachable as caught:
        run(Transport(url).get("/model_info"))
    assert "\n" not in str(caught.value)


def test_tls_to_a_plain_server_is_reported_at_once() -> None:
    with serving((200, "{}")) as (url, _):
        secure = Transport(url.replace("http", "https"))
        with pytest.raises(errors.ServerUnreachableError, match="does not speak TLS.*http://"):
            run(secure.get("/model_info"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": "make \ud83d"}, r"'make \\ud83d'"),
        ({"messages": [{"role": "user", "content": "a\udc00"}]}, r"'a\\udc00'"),
        ({"messages": [{"content": [{"text": "\ud800!"}]}]}, r"'\\ud800!'"),
        ({"sampling_params": {"stop": ["\udfff"]}}, r"'\\udfff'"),
        ({"\ud83d": 1}, r"'\\ud83d'"),
        ({"n": 2**80}, "cannot be written as JSON"),
        ({"n": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_a_body_that_json_cannot_hold_is_refused(body: Json, said: str) -> None:
    with serving((200, "{}")) as (url, seen):
        with pytest.raises(ValueError, match=said):
            run(Transport(url).post("/tokenize", lambda: body))
        assert isinstance(outcome_of(Transport(url), lambda: body), ValueError)
    assert seen == []


@pytest.mark.parametrize("num_turns", range(1, 8))
def test_a_cancelled_notice_is_cancelled_even_as_it_fails(
    num_turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that goes on after its cancellation would be repeated, and counted, elsewhere."""
    transport = Transport("http://127.0.0.1:1")

    async def refuse(*request: object) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        raise aiohttp.ClientConnectionError

    async def notify_and_wait() -> None:
        await transport.notify(ABORT, {"rid": "a"})
        await asyncio.sleep(60)

    async def scenario() -> None:
        task = asyncio.create_task(notify_and_wait())
        for _ in range(num_turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
        assert task.cancelled()

    monkeypatch.setattr(transport._connections, "exchange", refuse)
    run(scenario())
