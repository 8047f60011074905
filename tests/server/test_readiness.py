"""`/ready`: which servers cannot be used, in a word for everyone, in full with a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from tests.fakes.replicas import Replica
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.test_service import error_of, until
from tests.server.upstream import listening, upstream

SECRET = "a secret of SGLang"
RIGHT = {"Authorization": "Bearer right"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eager_sgl.server.app._RETRY_SECONDS", 0.02)


@contextmanager
def service(*urls: str, **settings: Any) -> Iterator[httpx.Client]:
    given: Any = {"chat_defaults": {}} | settings
    app = create_app(EndpointSettings(servers=urls, **given))
    with listening(app) as ours, httpx.Client(base_url=ours, timeout=30) as client:
        yield client


def refusing() -> FastAPI:
    """A server of something else; `app.state.num_asked` has the number of requests."""
    app = FastAPI()
    app.state.num_asked = 0

    @app.get("/{path:path}")
    async def refuse(path: str) -> JSONResponse:
        app.state.num_asked += 1
        return JSONResponse({"error": {"message": SECRET}}, 400)

    return app


def free_url() -> str:
    with listening(FastAPI()) as url:
        return url


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def message_of(client: httpx.Client, headers: dict[str, str] | None = None) -> str:
    answer = client.get("/ready", headers=headers)
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "unavailable"
    message: str = error_of(answer)["message"]
    return message


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic right"])
def test_texts_of_servers_are_for_callers_with_a_key(
    caplog: pytest.LogCaptureFixture, header: str | None
) -> None:
    url = free_url()
    wrong = {"Authorization": header} if header else None
    with service(url, keys=("right",)) as client:
        assert message_of(client, wrong) == "SGLang server 1 of 1 is unreachable"
        with listening(refusing(), port_of(url)):
            assert until(lambda: SECRET in message_of(client, RIGHT))
            assert message_of(client, wrong) == "SGLang server 1 of 1 is unsuitable"
            assert SECRET in error_of(client.get("/v1/models", headers=RIGHT))["message"]
    assert SECRET in caplog.text


def test_without_keys_everyone_reads_the_texts_of_servers() -> None:
    url = free_url()
    with service(url) as client, listening(refusing(), port_of(url)):
        assert until(lambda: SECRET in message_of(client))


def test_the_server_that_cannot_be_used_is_named_by_its_number() -> None:
    first, second = free_url(), free_url()
    with (
        service(first, second, keys=("right",)) as client,
        listening(refusing(), port_of(second)),
        listening(upstream(Replica("http://a")), port_of(first)),
    ):
        assert until(lambda: message_of(client) == "SGLang server 2 of 2 is unsuitable")


class Counted(Replica):
    """Counts the requests for tokens."""

    num_generated = 0

    def answer(self, path: str, body: Any = None) -> Any:
        self.num_generated += path == "/generate"
        return super().answer(path, body)


def test_a_server_that_can_be_used_is_not_probed_while_another_cannot() -> None:
    first, second = free_url(), free_url()
    counted, other = Counted("http://a"), refusing()
    with (
        service(first, second, keys=("right",)) as client,
        listening(upstream(counted), port_of(first)),
    ):
        with listening(other, port_of(second)):
            assert until(lambda: message_of(client) == "SGLang server 2 of 2 is unsuitable")
            number, num_asked = counted.num_generated, other.state.num_asked
            assert until(lambda: other.state.num_asked >= num_asked + 5)
            assert counted.num_generated == number
        with listening(upstream(Replica("http://b")), port_of(second)):
            assert until(lambda: client.get("/ready").status_code == 200)


def test_servers_that_have_gone_are_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    scripted = ScriptedServer(mixed_distribution(42))
    with ExitStack() as stack:
        with listening(upstream(scripted)) as url:
            client = stack.enter_context(service(url, keys=("right",)))
            assert client.get("/ready").status_code == 200
        for _ in range(3):
            assert message_of(client) == "SGLang server 1 of 1 is unreachable"
        assert caplog.text.count("no SGLang server answers") == 1
        with listening(upstream(scripted), port_of(url)):
            assert client.get("/ready").status_code == 200


def test_a_server_whose_files_have_another_form_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A list in place of generation_config.json had ended the task that connects.

    The log has the error's type and trace: its text alone may say nothing.
    """
    url, faults = free_url(), iter([AttributeError("'list' object has no attribute 'get'")])

    def defaults(*arguments: object) -> dict[str, float]:
        if (fault := next(faults, None)) is not None:
            raise fault
        return {}

    monkeypatch.setattr("eager_sgl.server.facts._defaults_of", defaults)
    scripted = ScriptedServer(mixed_distribution(42))
    with service(url, chat_defaults=None) as client, listening(upstream(scripted), port_of(url)):
        assert until(lambda: client.get("/ready").status_code == 200)
    assert next(faults, None) is None
    (record,) = [r for r in caplog.records if "AttributeError: 'list' object" in r.getMessage()]
    assert record.exc_info is not None
