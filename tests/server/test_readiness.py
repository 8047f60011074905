"""`/ready`: until servers answer; which cannot be used, in a word for all, in full with a key."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.base import RequestResponseEndpoint

from eager_sgl.embedded.address import DEFAULT_HOST, reserved_port
from eager_sgl.engine import limits
from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from tests.fakes.replicas import Replica
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.fakes.waiting import wait_until
from tests.server.test_service import ROUTE, SHORT, error_of
from tests.server.upstream import listening, upstream

SECRET = "a secret of SGLang"
RIGHT = {"Authorization": "Bearer right"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eager_sgl.server.app._RETRY_SECONDS", 0.02)


@contextmanager
def service(*ports: int, **settings: Any) -> Iterator[httpx.Client]:
    """A client of our server in front of servers at these ports."""
    urls = tuple(f"http://127.0.0.1:{port}" for port in ports)
    given: Any = {"chat_defaults": {}} | settings
    app = create_app(EndpointSettings(servers=urls, **given))
    with listening(app) as ours, httpx.Client(base_url=ours, timeout=30) as client:
        yield client


def refusing() -> FastAPI:
    """A server of something else.

    `app.state.num_asked` has the number of requests, `app.state.text` what it answers.
    """
    app = FastAPI()
    app.state.num_asked, app.state.text = 0, SECRET

    @app.get("/{path:path}")
    async def refuse(path: str) -> JSONResponse:
        app.state.num_asked += 1
        return JSONResponse({"error": {"message": app.state.text}}, 400)

    return app


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which no server listens yet, and no other program will."""
    with reserved_port(DEFAULT_HOST, 0) as port:
        yield port


def message_of(client: httpx.Client, headers: dict[str, str] | None = None) -> str:
    answer = client.get("/ready", headers=headers)
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "unavailable"
    message: str = error_of(answer)["message"]
    return message


def test_it_is_ready_once_a_server_answers(port: int) -> None:
    with service(port) as client:
        assert client.get("/health").status_code == 200
        assert "eager_replicas_up 0.0" in client.get("/metrics").text
        for answer in (
            client.get("/ready"),
            client.get("/v1/models"),
            client.post(ROUTE, json=SHORT),
        ):
            assert answer.status_code == 503
            assert error_of(answer)["code"] == "unavailable"
            assert answer.headers["retry-after"] == "1"
        with listening(upstream(ScriptedServer(mixed_distribution(42))), port):
            assert wait_until(lambda: client.get("/ready").status_code == 200)
            assert client.post(ROUTE, json=SHORT).status_code == 200
            assert "eager_replicas_up 1.0" in client.get("/metrics").text


def test_a_server_that_hangs_does_not_delay_ready() -> None:
    """A probe waits no longer than the endpoint waits for one of its servers."""
    hangs, hanging = threading.Event(), upstream(Replica("http://hangs"))

    @hanging.middleware("http")
    async def stall(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if hangs.is_set():
            await asyncio.sleep(60)
        return await call_next(request)

    with listening(hanging) as first, listening(upstream(Replica("http://answers"))) as second:
        app = create_app(EndpointSettings(servers=(first, second), chat_defaults={}))
        with listening(app) as ours:
            hangs.set()
            ready = httpx.get(f"{ours}/ready", timeout=limits.ALIVE_TIMEOUT / 2)
            assert ready.status_code == 200


def test_servers_that_cannot_be_used_are_named_and_logged_once(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key that shows after the start: nothing else would say why it is never ready."""
    refusing, asked = FastAPI(), Counter[str]()

    @refusing.get("/{path:path}")
    async def refuse(path: str) -> Response:
        asked[path] += 1
        return Response(status_code=401)

    with service(port, server_key="wrong") as client:
        with listening(refusing, port):
            assert wait_until(lambda: "API key" in error_of(client.get("/ready"))["message"])
            assert "API key" in error_of(client.get("/v1/models"))["message"]
            before = asked.total()
            assert wait_until(lambda: asked.total() >= before + 5)
        assert wait_until(lambda: "API key" not in error_of(client.get("/ready"))["message"])
        assert wait_until(lambda: caplog.text.count("tried again") >= 3)
    lines = [r.message for r in caplog.records if "tried again" in r.message]
    refused = ["refused the API key" in line for line in lines]
    assert refused.count(True) == 1
    assert [kind for kind, _ in groupby(refused)] == [False, True, False]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic right"])
def test_texts_of_servers_are_for_callers_with_a_key(
    port: int, caplog: pytest.LogCaptureFixture, header: str | None
) -> None:
    wrong = {"Authorization": header} if header else None
    with service(port, keys=("right",)) as client:
        assert message_of(client, wrong) == "SGLang server 1 of 1 is unreachable"
        with listening(refusing(), port):
            assert wait_until(lambda: SECRET in message_of(client, RIGHT))
            assert message_of(client, wrong) == "SGLang server 1 of 1 is unsuitable"
            assert SECRET in error_of(client.get("/v1/models", headers=RIGHT))["message"]
    assert SECRET in caplog.text


def test_without_keys_everyone_reads_the_texts_of_servers(port: int) -> None:
    with service(port) as client, listening(refusing(), port):
        assert wait_until(lambda: SECRET in message_of(client))


def test_the_server_that_cannot_be_used_is_named_by_its_number(port: int) -> None:
    with (
        reserved_port(DEFAULT_HOST, 0) as second,
        service(port, second, keys=("right",)) as client,
        listening(refusing(), second),
        listening(upstream(Replica("http://a")), port),
    ):
        assert wait_until(lambda: message_of(client) == "SGLang server 2 of 2 is unsuitable")


class Counted(Replica):
    """Counts the requests for tokens."""

    num_generated = 0

    def answer(self, path: str, body: Any = None) -> Any:
        self.num_generated += path == "/generate"
        return super().answer(path, body)


def test_a_server_that_can_be_used_is_not_probed_while_another_cannot(port: int) -> None:
    counted, other = Counted("http://a"), refusing()
    with (
        reserved_port(DEFAULT_HOST, 0) as second,
        service(port, second, keys=("right",)) as client,
        listening(upstream(counted), port),
    ):
        with listening(other, second):
            assert wait_until(lambda: message_of(client) == "SGLang server 2 of 2 is unsuitable")
            number, num_asked = counted.num_generated, other.state.num_asked
            assert wait_until(lambda: other.state.num_asked >= num_asked + 5)
            assert counted.num_generated == number
        with listening(upstream(Replica("http://b")), second):
            assert wait_until(lambda: client.get("/ready").status_code == 200)


@pytest.mark.parametrize("number", [1, 2])
def test_the_latest_text_of_an_unsuitable_server_is_shown(
    port: int, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one that is unsuitable for another cause later, alone or beside one that can be used."""
    other = refusing()
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved_port(DEFAULT_HOST, 0)) for _ in range(number - 1)]
        client = stack.enter_context(service(*ports, port, keys=("right",)))
        stack.enter_context(listening(other, port))
        for good in ports:
            stack.enter_context(listening(upstream(Replica("http://a")), good))
        unsuitable = f"SGLang server {number} of {number} is unsuitable"
        assert wait_until(lambda: message_of(client) == unsuitable)
        assert SECRET in message_of(client, RIGHT)
        other.state.text = "another secret"
        assert wait_until(lambda: "another secret" in message_of(client, RIGHT))
        assert SECRET not in message_of(client, RIGHT)
        assert message_of(client) == unsuitable
    assert caplog.text.count("another secret") == 1


def test_servers_that_have_gone_are_noted_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    scripted = ScriptedServer(mixed_distribution(42))
    with ExitStack() as stack:
        with listening(upstream(scripted), port):
            client = stack.enter_context(service(port, keys=("right",)))
            assert client.get("/ready").status_code == 200
        for _ in range(3):
            assert message_of(client) == "SGLang server 1 of 1 is unreachable"
        assert caplog.text.count("no SGLang server answers") == 1
        with listening(upstream(scripted), port):
            assert client.get("/ready").status_code == 200


def test_a_server_whose_files_have_another_form_is_tried_again(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A list in place of generation_config.json had ended the task that connects.

    The log has the error's type and trace: its text alone may say nothing.
    """
    faults = iter([AttributeError("'list' object has no attribute 'get'")])

    def defaults(*arguments: object) -> dict[str, float]:
        if (fault := next(faults, None)) is not None:
            raise fault
        return {}

    monkeypatch.setattr("eager_sgl.server.facts._defaults_of", defaults)
    scripted = ScriptedServer(mixed_distribution(42))
    with service(port, chat_defaults=None) as client, listening(upstream(scripted), port):
        assert wait_until(lambda: client.get("/ready").status_code == 200)
    assert next(faults, None) is None
    (record,) = [r for r in caplog.records if "AttributeError: 'list' object" in r.getMessage()]
    assert record.exc_info is not None
