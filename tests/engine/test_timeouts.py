"""Timeouts of a request: in total, of silence, of an abort; over real HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from eager_sgl import errors
from eager_sgl.engine import limits
from eager_sgl.engine.limits import UNREPEATED, Patience
from eager_sgl.engine.loop import run
from eager_sgl.engine.transport import Transport
from tests.engine.outcomes import outcome_of, without_aborts
from tests.fakes.http_server import ABORT, Handler, Seen, hanging, listening, serving
from tests.fakes.waiting import wait_until


def test_a_route_that_generates_nothing_has_a_short_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SMALL_TIMEOUT", 0.05)
    assert limits.SMALL_TIMEOUT <= 20
    with hanging() as url:
        late = pytest.raises(
            errors.ServerUnreachableError, match=r"no complete answer within 0\.05"
        )
        with late:
            run(Transport(url).get("/server_info"))
        with late:
            run(Transport(url).post("/detokenize", dict))


def trickle(piece: bytes = b" ", pause: float = 0.02) -> type[Handler]:
    """A handler whose answers never end, though bytes arrive all the time."""

    class Server(Handler):
        def reply(self, request: Seen) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(piece)
                    threading.Event().wait(pause)
            except OSError:
                self.close_connection = True

    return Server


def test_the_timeout_of_a_request_is_total() -> None:
    with listening(trickle()) as url:
        started = time.monotonic()
        with pytest.raises(
            errors.ServerUnreachableError, match=r"no complete answer within 0\.3 s"
        ):
            run(Transport(url, request_timeout=0.3).post("/generate", dict, patience=UNREPEATED))
        assert time.monotonic() - started < 5


def test_silence_has_a_separate_timeout() -> None:
    with (
        hanging() as url,
        pytest.raises(errors.ServerUnreachableError, match=r"answer within 0\.2 s"),
    ):
        run(Transport(url, silence_timeout=0.2).post("/generate", dict, patience=UNREPEATED))
    handler = trickle()
    with listening(handler) as url, pytest.raises(errors.ServerError, match=r"within 1\.5 s"):
        run(
            Transport(url, request_timeout=1.5, silence_timeout=1.0).post(
                "/generate", dict, patience=UNREPEATED
            )
        )


def test_a_queued_request_waits_while_its_server_answers_others() -> None:
    """Its own silence counts from its first byte on."""
    talked = threading.Event()

    class Server(Handler):
        def reply(self, request: Seen) -> None:
            is_queued = request.body["rid"] == "queued"
            self.send_response(200)  # as of a stream, at once
            self.send_header("Content-Length", "2" if is_queued else "42")
            self.end_headers()
            if is_queued:
                assert talked.wait(10)
                self.wfile.write(b"{}")
                return
            for byte in b" " * 40:
                self.wfile.write(bytes([byte]))
                time.sleep(0.06)
            self.wfile.write(b"{}")
            talked.set()

    async def both(transport: Transport) -> list[object]:
        def post(name: str) -> Awaitable[object]:
            return transport.post("/generate", lambda: {"rid": name}, patience=UNREPEATED)

        return list(await asyncio.gather(post("queued"), post("talks")))

    with listening(Server) as url:
        assert run(both(Transport(url, silence_timeout=2.0))) == [{}, {}]


def test_a_request_that_draws_tokens_is_aborted_after_a_timeout_and_not_repeated() -> None:
    with serving((200, "{}"), delay=1.0) as (url, seen):
        with pytest.raises(errors.ServerUnreachableError, match=r"within 0\.2 s"):
            run(
                Transport(url, silence_timeout=0.2).post(
                    "/generate", lambda: {"rid": "mine"}, patience=UNREPEATED
                )
            )
        wait_until(lambda: len(seen) == 2)
        assert {request.path for request in seen} == {"/generate", ABORT}
        assert all(request.body["rid"] == "mine" for request in seen)


def test_a_request_that_draws_nothing_is_repeated_after_a_timeout() -> None:
    with hanging() as url, pytest.raises(errors.ServerUnreachableError, match="tried 3 times"):
        run(Transport(url).post("/generate", dict, patience=Patience((1.0, 1.0), timeout=0.1)))


@pytest.mark.parametrize("limit", ["request_timeout", "silence_timeout"])
def test_the_answer_of_an_aborted_request_is_used(limit: str) -> None:
    stopped = threading.Event()
    seen: list[Seen] = []

    class Server(Handler):
        def abort(self, request: Seen) -> None:
            seen.append(request)
            stopped.set()

        def reply(self, request: Seen) -> None:
            seen.append(request)
            assert stopped.wait(10)
            self.send(200, b'{"so": "far"}')

    timeouts: dict[str, Any] = {limit: 0.2}
    with listening(Server) as url:
        transport = Transport(url, **timeouts)
        assert outcome_of(transport, lambda: {"rid": "a"}) == {"so": "far"}
    asked = sorted((request.path, request.body["rid"]) for request in seen)
    assert asked == [(ABORT, "a"), ("/generate", "a")]


def test_a_request_that_ignores_its_abort_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ABORT_TIMEOUT", 0.1)
    ids = iter("abcdefghij")
    with serving((200, "{}"), delay=5.0) as (url, seen):
        outcome = outcome_of(Transport(url, silence_timeout=0.1), lambda: {"rid": next(ids)})
        wait_until(lambda: len(without_aborts(seen)) >= 7)
    assert isinstance(outcome, errors.ServerUnreachableError)
    assert sorted(request.body["rid"] for request in without_aborts(seen)) == list("abcdefg")
