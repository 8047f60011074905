"""Keys, limits, deadlines, disconnects, draining, the log and the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eager_sgl import AsyncClient
from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from eager_sgl.server.traffic.access import Access
from eager_sgl.server.traffic.lines import LogFormatter
from tests.fakes.decoding import DecodingServer
from tests.fakes.replicas import Replica
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.fakes.waiting import wait_until
from tests.server.upstream import MODEL, address_of, endpoint, listening, upstream

TREE: dict[str, Any] = {"model": f"{MODEL}:trie_parallel", "prompt": [9], "n": 4}
STALLS_AFTER = 100
LONG = TREE | {"max_tokens": 2 * STALLS_AFTER}
SHORT = TREE | {"max_tokens": 8}
ROUTE = "/v1/completions"


@contextmanager
def service(
    server: ScriptedServer | None = None, key: str | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    scripted = server or ScriptedServer(mixed_distribution(42))
    with (
        endpoint(scripted, **settings) as url,
        httpx.Client(base_url=url, headers=headers, timeout=30) as client,
    ):
        yield client


def stalling() -> DecodingServer:
    """A server on which long requests never end by themselves."""
    return DecodingServer(stalls_after=STALLS_AFTER)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in OpenAI's form."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic right", "right"])
def test_a_wrong_key_is_refused(header: str | None) -> None:
    with service(keys=("right", "other")) as client:
        headers = {} if header is None else {"Authorization": header}
        answers = [client.get("/v1/models", headers=headers)]
        answers.append(client.post(ROUTE, json=SHORT, headers=headers))
        for answer in answers:
            assert answer.status_code == 401
            assert error_of(answer)["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", ["right", "other"])
def test_every_key_is_accepted(key: str) -> None:
    with service(keys=("right", "other"), key=key) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.post(ROUTE, json=SHORT).status_code == 200


def test_probes_need_no_key() -> None:
    with service(keys=("right",)) as client:
        for path in ("/health", "/ready", "/metrics"):
            assert client.get(path).status_code == 200


def test_models_have_their_methods_as_names() -> None:
    with service() as client:
        names = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert names[0] == MODEL
        for name in names:
            assert client.get(f"/v1/models/{name}").json()["id"] == name
        assert error_of(client.get("/v1/models/other"))["code"] == "model_not_found"


BROKEN: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"{", 400),
    "no object": (b"[]", 400),
    "not UTF-8": (b'"\xff"', 400),
    "empty": (b"", 400),
    "too long": (b"{" + b" " * 3000, 413),
    "deep": (b"[" * 1500, 400),
    "half a surrogate": (json.dumps(SHORT | {"prompt": "\ud800"}).encode(), 400),
    "an empty prompt": (json.dumps(SHORT | {"prompt": ""}).encode(), 400),
    "a token outside": (json.dumps(SHORT | {"prompt": [10**7]}).encode(), 400),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_body_is_refused(name: str) -> None:
    data, status = BROKEN[name]
    with service(max_body_bytes=2000) as client:
        answer = client.post(ROUTE, content=data)
        assert answer.status_code == status
        assert error_of(answer)["message"]


def test_a_body_in_chunks_is_bounded_too() -> None:
    with service(max_body_bytes=2000) as client:
        answer = client.post(ROUTE, content=iter([b" " * 900] * 5))
        assert answer.status_code == 413


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/completions", 405)])
def test_unknown_routes_have_openais_form(path: str, status: int) -> None:
    with service() as client:
        answer = client.get(path)
        assert answer.status_code == status
        assert path in error_of(answer)["message"]


def test_more_requests_than_allowed_are_refused_until_some_have_ended() -> None:
    with service(stalling(), max_requests=2) as client, contextlib.ExitStack() as running:
        for _ in range(2):
            running.enter_context(client.stream("POST", ROUTE, json=LONG | {"stream": True}))
        refused = client.post(ROUTE, json=SHORT)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        running.close()
        assert wait_until(lambda: client.post(ROUTE, json=SHORT).status_code == 200)


class _Places:
    """Notes how many requests are in flight when the last part of an answer is sent."""

    def __init__(self, app: ASGIApp, api: FastAPI, found: list[str]) -> None:
        self._app, self._api, self._found = app, api, found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and scope["path"] == ROUTE:
                transport = httpx.ASGITransport(self._api)
                async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                    text = (await client.get("/metrics")).text
                self._found += [
                    line for line in text.splitlines() if "in_flight " in line and line[0] != "#"
                ]
            await send(message)

        await self._app(scope, receive, noting)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("timeout", [0.3, 30])
def test_a_client_that_has_its_answer_has_left_its_place(stream: bool, timeout: float) -> None:
    found: list[str] = []
    body = (LONG if timeout < 1 else SHORT) | {"stream": stream, "timeout": timeout}
    with listening(upstream(stalling())) as url:
        app = create_app(EndpointSettings(servers=(url,), chat_defaults={}))
        app.add_middleware(_Places, api=app, found=found)
        with listening(app) as ours:
            httpx.post(ours + ROUTE, json=body, timeout=30)
    assert found == ["eager_requests_in_flight 0.0", "eager_sequences_in_flight 0.0"]


class _Unread:
    """A connection whose client does not take the last part of an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def taking(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and scope["path"] == ROUTE:
                await asyncio.Event().wait()
            await send(message)

        await self._app(scope, receive, taking)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_not_read_to_its_end_is_given_up(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eager_sgl.server.app._LAST_SECONDS", 0.1)
    with listening(upstream(stalling())) as url:
        app = create_app(EndpointSettings(servers=(url,), chat_defaults={}))
        app.add_middleware(_Unread)
        with listening(app) as ours:
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.post(ours + ROUTE, json=SHORT | {"stream": stream, "timeout": 3}, timeout=60)
            text = httpx.get(f"{ours}/metrics").text
    assert f'eager_requests_total{{route="{ROUTE}",status="504"}} 1.0' in text


@pytest.mark.parametrize("field", ["timeout", "deadline_s"])
def test_a_deadline_is_504_and_ends_the_tree(field: str) -> None:
    server = stalling()
    settings: Any = {"deadline_s": 0.3} if field == "deadline_s" else {}
    with service(server, **settings) as client:
        body = LONG | ({"timeout": 0.3} if field == "timeout" else {})
        answer = client.post(ROUTE, json=body)
        assert answer.status_code == 504
        assert error_of(answer)["code"] == "deadline"
        assert wait_until(lambda: not server.running)


def test_a_deadline_ends_a_stream_with_an_error() -> None:
    with service(stalling()) as client:
        body = LONG | {"timeout": 3.0, "stream": True}
        events = client.post(ROUTE, json=body).text.strip().split("\n\n")
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[-2][6:])["error"]["code"] == "deadline"
        assert len(events) > 2


def test_the_deadline_of_a_tree_gives_what_it_has() -> None:
    with service(stalling()) as client:
        eager = {"method": "trie_parallel", "max_sequences": 4, "deadline_s": 3.0}
        body = {name: LONG[name] for name in ("prompt", "max_tokens")}
        body |= {"model": MODEL, "eager": eager}
        answer = client.post(ROUTE, json=body).json()
        assert answer["eager"]["stopped"] == "timeout"
        assert answer["choices"]


class _Silent(DecodingServer):
    """Tokenises nothing when it is silent."""

    is_silent = False

    async def post(self, path: str, *arguments: Any, **options: Any) -> Any:
        if path == "/tokenize" and self.is_silent:
            await asyncio.sleep(60)
        return await super().post(path, *arguments, **options)


@pytest.mark.parametrize("prompt", ["a text", [9]])
def test_the_deadline_of_a_tree_without_tokens_is_504(prompt: str | list[int]) -> None:
    server = _Silent()
    with service(server) as client:
        server.is_silent = True
        eager = {"method": "trie_parallel", "deadline_s": 0.2 if prompt == "a text" else 1e-6}
        answer = client.post(ROUTE, json={"model": MODEL, "prompt": prompt, "eager": eager})
        assert answer.status_code == 504
        assert error_of(answer)["code"] == "deadline"


PLAIN = LONG | {"model": MODEL, "n": 3}


async def leave(url: httpx.URL, body: dict[str, Any], server: DecodingServer) -> None:
    """Ask, and leave while requests run on the server."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        asking = asyncio.create_task(client.post(ROUTE, json=body))
        while not server.stalled:
            assert not asking.done()
            await asyncio.sleep(0.01)
        asking.cancel()


@pytest.mark.parametrize("body", [LONG, PLAIN], ids=["tree", "plain"])
def test_a_client_that_leaves_ends_its_requests(body: dict[str, Any]) -> None:
    server = stalling()
    with service(server) as client:
        asyncio.run(leave(client.base_url, body, server))
        assert wait_until(
            lambda: not server.running and "in_flight 0.0" in client.get("/metrics").text
        )


@pytest.mark.parametrize("body", [LONG, PLAIN], ids=["tree", "plain"])
def test_a_stream_that_is_left_ends_its_requests(body: dict[str, Any]) -> None:
    server = stalling()
    with service(server) as client:
        with client.stream("POST", ROUTE, json=body | {"stream": True}):
            assert wait_until(lambda: bool(server.running))
        assert wait_until(
            lambda: not server.running and "in_flight 0.0" in client.get("/metrics").text
        )


def test_the_metrics_count_what_answers_cost() -> None:
    with service() as client:
        bill = client.post(ROUTE, json=SHORT | {"n": 16}).json()["eager"]
        client.post(ROUTE, content=b"{")
        assert wait_until(lambda: 'status="400"' in client.get("/metrics").text)
        text = client.get("/metrics").text
    expected = {
        'eager_requests_total{route="/v1/completions",status="200"} 1.0',
        'eager_requests_total{route="/v1/completions",status="400"} 1.0',
        'eager_sequences_total{method="trie_parallel"} 16.0',
        "eager_replicas_up 1.0",
    }
    for kind in ("generated", "naive"):
        labels = f'{{kind="{kind}",method="trie_parallel"}}'
        expected.add(f"eager_tokens_total{labels} {float(bill['tokens'][kind])}")
    assert expected <= set(text.splitlines())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("end", ["deadline", "disconnect"])
def test_the_metrics_count_what_ended_requests_cost(end: str, stream: bool) -> None:
    body, server = LONG | {"stream": stream}, stalling()
    with service(server) as client:
        if end == "deadline":
            client.post(ROUTE, json=body | {"timeout": 3.0})
        else:
            asyncio.run(leave(client.base_url, body, server))
        assert wait_until(lambda: not server.running and _generated(client) > 0)
        # The last token of every request may be decoded after the abort.
        assert abs(_generated(client) - server.num_decoded) <= 8


def _generated(client: httpx.Client) -> float:
    name = 'eager_tokens_total{kind="generated",method="trie_parallel"}'
    lines = [line.split() for line in client.get("/metrics").text.splitlines()]
    return sum(float(value) for key, value, *_ in lines if key == name)


def test_requests_wait_for_the_sequences_of_others() -> None:
    with service(stalling(), max_in_flight=4) as client, ThreadPoolExecutor(1) as pool:
        with client.stream("POST", ROUTE, json=LONG | {"stream": True}):
            assert wait_until(
                lambda: "eager_sequences_in_flight 4.0" in client.get("/metrics").text
            )
            waiting = pool.submit(client.post, ROUTE, json=SHORT | {"n": 2})
            assert wait_until(lambda: "eager_requests_waiting 1.0" in client.get("/metrics").text)
            assert not waiting.done()
        assert waiting.result(60).status_code == 200
        assert wait_until(lambda: "eager_sequences_in_flight 0.0" in client.get("/metrics").text)


def test_only_streams_have_a_first_token() -> None:
    answered = f'eager_request_seconds_count{{route="{ROUTE}"}} 3.0'
    with service() as client:
        for stream in (False, True, False):
            assert client.post(ROUTE, json=SHORT | {"stream": stream}).status_code == 200
        assert wait_until(lambda: answered in client.get("/metrics").text)
        text = client.get("/metrics").text
    assert f'eager_first_token_seconds_count{{route="{ROUTE}"}} 1.0' in text


def test_a_replica_has_its_state_by_its_address() -> None:
    with (
        listening(upstream(Replica("http://a"))) as stays,
        listening(upstream(Replica("http://b"))) as other,
        listening(create_app(EndpointSettings(servers=(stays, other)))) as ours,
    ):
        text = httpx.get(f"{ours}/metrics").text
    for url in (stays, other):
        assert f'eager_replica_up{{replica="{url}"}} 1.0' in text


def test_no_label_has_a_value_of_the_clients() -> None:
    with service() as client:
        client.post(ROUTE, json=SHORT | {"user": "a-client", "model": "a-client"})
        client.post(ROUTE, json=SHORT | {"eager": {"method": "a-client"}})
        client.get("/a-client")
        client.request("BREW", "/a-client")
        assert wait_until(lambda: 'status="404"' in client.get("/metrics").text)
        assert "a-client" not in client.get("/metrics").text


def test_the_access_log_has_costs_and_no_prompts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "eager_sgl.server"), service(key="secret-key") as client:
        client.post(ROUTE, json=SHORT | {"prompt": "a private question"})
        client.post("/v1/a private path", content=b"")
    lines = [json.loads(r.message) for r in caplog.records if r.name.endswith("access")]
    assert {line["status"] for line in lines} == {200, 404}
    assert [line["usage"]["completion_tokens"] > 0 for line in lines if "usage" in line] == [True]
    assert "private" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("given", ["a-1_B.2:/+=", None, "a b", "x" * 129, "a\tb", ""])
def test_answers_have_the_clients_id_or_one_of_ours(
    caplog: pytest.LogCaptureFixture, given: str | None
) -> None:
    caplog.set_level(logging.INFO)
    headers = {} if given is None else {"X-Request-Id": given}
    with service() as client:
        answers = [client.post(ROUTE, json=SHORT, headers=headers)]
        answers.append(client.post(ROUTE, json=SHORT | {"stream": True}, headers=headers))
        answers.append(client.post(ROUTE, content=b"{", headers=headers))
        answers.append(client.get("/nothing", headers=headers))
    ids = [answer.headers["x-request-id"] for answer in answers]
    lines = [json.loads(r.message) for r in caplog.records if r.name.endswith("access")]
    assert {line["request_id"] for line in lines} == set(ids)
    if given == "a-1_B.2:/+=":
        assert set(ids) == {given}
    else:
        assert given not in ids
        assert len(set(ids)) == len(ids)


def test_a_fault_of_the_endpoint_is_answered_in_openais_form(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*arguments: object) -> None:
        raise AssertionError("a secret of the endpoint")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("eager_sgl.server.app.plan_of", faulty)
    with service() as client:
        answer = client.post(ROUTE, json=SHORT, headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert "secret" not in error_of(answer)["message"]
    assert answer.headers["x-request-id"] == "mine"
    lines = [json.loads(r.message) for r in caplog.records if r.name.endswith("access")]
    assert [line["status"] for line in lines if line["request_id"] == "mine"] == [500]
    assert "a secret of the endpoint" in caplog.text


def test_a_wrong_address_is_refused() -> None:
    command = [sys.executable, "-m", "eager_sgl.server", "--server", "localhost"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "'localhost'" in done.stderr


def test_sigterm_lets_running_requests_finish() -> None:
    with listening(upstream(DecodingServer())) as url:
        command = [sys.executable, "-m", "eager_sgl.server", "--server", url, "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            ours = address_of(process)
            body = TREE | {"max_tokens": 300, "n": 1, "stream": True}
            with httpx.stream("POST", ours + ROUTE, json=body, timeout=60) as response:
                lines = response.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                assert list(lines)[-2] == "data: [DONE]"
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()


def test_the_log_has_no_text_of_the_model(caplog: pytest.LogCaptureFixture) -> None:
    """A pattern may make an answer of a whole text, which may repeat the prompt."""
    body = TREE | {"model": f"{MODEL}:vote", "eager": {"answer": {"regex": "(?s).+"}}}
    body = {name: value for name, value in body.items() if name != "n"} | {"max_tokens": 8}
    caplog.set_level(logging.INFO)
    with service() as client:
        details = client.post(ROUTE, json=body).json()["eager"]
    assert details["answer"] in details["votes"]
    (line,) = [json.loads(r.message) for r in caplog.records if r.name.endswith("access")]
    assert line["eager"]["sequences"] == details["sequences"]
    assert not {"answer", "votes", "counts"} & set(line["eager"])


def _upload(url: httpx.URL, *, seconds: float) -> bytes:
    """What is received after a part of a body."""
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{"
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode())
        connection.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            return connection.recv(10_000)
    return b""


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with service() as client:
        assert _upload(client.base_url, seconds=0.2) == b""
        assert wait_until(lambda: 'status="499"' in client.get("/metrics").text)
    assert 'status="500"' not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_body_that_does_not_arrive_in_time_is_refused() -> None:
    with service(deadline_s=0.3) as client:
        url = client.base_url
        connection = http.client.HTTPConnection(url.host, url.port, timeout=20)
        connection.putrequest("POST", ROUTE)
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"{")
        answer = connection.getresponse()
        assert answer.status == 408
        assert b"within 0.3 s" in answer.read()
        connection.close()


class _Slow(DecodingServer):
    """Takes a while for a prompt."""

    async def post(self, path: str, build: Any, *rest: Any, **options: Any) -> Any:
        if path == "/tokenize" and build().get("prompt") == "a text":
            await asyncio.sleep(0.3)
        return await super().post(path, build, *rest, **options)


def test_the_deadline_of_a_tree_includes_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float] = []
    generate = AsyncClient.generate

    async def noting(*arguments: Any, **options: Any) -> Any:
        timeouts.append(options["timeout"])
        return await generate(*arguments, **options)

    monkeypatch.setattr(AsyncClient, "generate", noting)
    with service(_Slow()) as client:
        eager = {"method": "trie_parallel", "max_sequences": 2, "deadline_s": 20.0}
        body = {"model": MODEL, "prompt": "a text", "max_tokens": 8, "eager": eager}
        assert client.post(ROUTE, json=body).status_code == 200
    (timeout,) = timeouts
    assert 0 < timeout <= 19.7


def test_no_text_can_pass_for_a_line_of_the_log() -> None:
    text = 'SGLang: \x1b[2J\r\n{"status": 200}\x85'
    record = logging.LogRecord("a", logging.WARNING, "a", 1, "%s", (text,), None)
    lines = LogFormatter("%(message)s").format(record).splitlines()
    assert lines == ["SGLang: \\x1b[2J\\x0d", '    {"status": 200}\\x85']


def test_the_time_of_a_slow_body_belongs_to_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A body that takes a part of the deadline leaves the rest of it, not another whole one."""
    left: list[float] = []
    seconds_left = Access.seconds_left

    def noting(self: Access, limit: float) -> float:
        left.append(seconds_left(self, limit))
        return left[-1]

    monkeypatch.setattr(Access, "seconds_left", noting)
    data = json.dumps(SHORT).encode()
    with service(deadline_s=30.0) as client:
        url = client.base_url
        connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
        connection.putrequest("POST", ROUTE)
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data[:-1])
        time.sleep(1.0)  # it has arrived after half of it at the latest
        connection.send(data[-1:])
        assert connection.getresponse().status == 200
        connection.close()
    assert len(left) == 1
    assert 0 < left[0] <= 29.5


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    with service() as client:
        document = client.get("/openapi.json").json()
    texts = json.dumps(document).split('"$ref": "')[1:]
    references = {text.partition('"')[0] for text in texts}
    assert {"#/components/schemas/Chat", "#/components/schemas/Completion"} < references
    for reference in references:
        found = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert found["type"] == "object"


def test_all_messages_of_the_process_have_the_form_of_the_log() -> None:
    code = """
import logging
from eager_sgl.server.__main__ import _log_to_stderr
logging.basicConfig(format="of others %(message)s")
_log_to_stderr()
for name in ("uvicorn.error", "eager_sgl.engine.probe", "eager_sgl.server", "asyncio"):
    logging.getLogger(name).warning("a\\nb")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stderr == "a\n    b\n" * 4
