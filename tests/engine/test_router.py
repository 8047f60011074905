"""Through a router: which requests are sent to it, in which form, and how they are aborted."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest

import eager_sgl
from eager_sgl import EagerConfig, EagerInit, SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.engine import limits
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.loop import run, spawn
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.requests import Request, RequestHandle
from eager_sgl.engine.router import routed
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import RequestRejectedError, ServerError, ServerUnreachableError
from eager_sgl.plugin.carried import carried_params, plain_id
from evals.config.parse import parse_settings
from evals.execution.methods import METHODS
from tests.fakes.endpoint import run_method
from tests.fakes.http_server import Handler, Seen, listening, scripted_sglang
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.fakes.waiting import until

PROFILE = ServerProfile("model", "0.5.23", 1000, 1, "tempered", 1000)
REQUEST = Request((9, 8), 50, SamplingConfig(), stream_interval=8)


class Naming(Handler):
    """Answers with its port."""

    def reply(self, request: Seen) -> None:
        port = self.connection.getsockname()[1]
        self.send(200, json.dumps({"port": port}).encode())


@pytest.fixture
def urls() -> Iterator[tuple[str, str]]:
    """Of a replica and a router."""
    with listening(Naming) as replica, listening(Naming) as router:
        yield replica, router


def test_generation_alone_goes_through_the_router(urls: tuple[str, str]) -> None:
    replica, router = (int(url.rpartition(":")[2]) for url in urls)
    transport = Transport(urls[0], router=f"{urls[1]}/")
    assert run(transport.post("/generate", dict)) == {"port": router}
    for path in ("/tokenize", "/detokenize"):
        assert run(transport.post(path, dict)) == {"port": replica}
    assert run(transport.get("/model_info")) == {"port": replica}


@pytest.mark.parametrize(
    "body",
    [
        {"sampling_params": {"logit_bias": {"3": 1.0}}},
        {"sampling_params": {"stop_regex": "a+"}},
        {"sampling_params": {}, "return_sampling_mask": True},
        {"sampling_params": {"custom_params": {}}, "custom_logit_processor": "text"},
    ],
)
def test_what_a_router_would_drop_goes_to_the_replica(body: Json, urls: tuple[str, str]) -> None:
    replica = int(urls[0].rpartition(":")[2])
    transport = Transport(urls[0], router=urls[1])
    assert run(transport.post("/generate", lambda: {"rid": "a", **body})) == {"port": replica}


def test_an_unreachable_router_is_named(urls: tuple[str, str]) -> None:
    transport = Transport(urls[0], router="http://127.0.0.1:9")
    with pytest.raises(ServerUnreachableError, match=r"http://127\.0\.0\.1:9"):
        run(transport.post("/generate", dict))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--router", "http://r"], "--router needs --server, the URL of one of its replicas"),
        (["--server", "http://s", "--router", "r:1"], "it must start with http:// or https://"),
    ],
)
def test_a_router_needs_a_replica(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings(arguments, METHODS)
    assert message in capsys.readouterr().err


# The form of requests

PASSED_PARAMS = set(
    "max_new_tokens stop stop_token_ids temperature top_p top_k min_p n regex ebnf json_schema "  # noqa: SIM905
    "ignore_eos skip_special_tokens sampling_seed".split()
)
PASSED_FIELDS = set(
    "rid input_ids text sampling_params stream return_logprob logprob_start_len "  # noqa: SIM905
    "top_logprobs_num token_ids_logprob".split()
)
"""Fields that reached a server behind sglang-router 0.3.2, each tried by itself."""


def as_passed_on(body: Json) -> Json:
    """What the router sends on of a request."""
    seed = body["sampling_params"].get("sampling_seed", 0)
    if not 0 <= seed < 2**64:
        raise RequestRejectedError(f"invalid value: integer `{seed}`, expected u64")
    params = {k: v for k, v in body["sampling_params"].items() if k in PASSED_PARAMS}
    return {k: v for k, v in body.items() if k in PASSED_FIELDS} | {"sampling_params": params}


@pytest.mark.parametrize("top_k", [0, 20])
@pytest.mark.parametrize("seed", [None, 5, -5, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("stream_interval", [None, 8])
def test_a_router_drops_nothing_of_a_routed_request(
    top_k: int, seed: int | None, stream_interval: int | None
) -> None:
    request = Request(
        (1, 2), 5, SamplingConfig(), top_k=top_k, seed=seed, stream_interval=stream_interval
    )
    body = routed(request.payload("eager-1"))
    assert body is not None
    assert as_passed_on(body) == body
    carried = {} if stream_interval is None else {"stream_interval": stream_interval}
    assert carried_params(body["rid"]) == carried
    assert plain_id(body["rid"]) == "eager-1"


def test_a_gates_parameters_travel_in_the_request_id() -> None:
    asked = {"eager": {"v": 1, "branch": {"theta": 2.1, "top_k": 20}, "text": "ä?&{}"}}
    body = {"rid": "eager-1", "input_ids": [1], "sampling_params": {"custom_params": asked}}
    passed = routed(body)
    assert passed is not None
    assert as_passed_on(passed) == passed
    assert carried_params(passed["rid"]) == {"custom_params": asked}
    assert body["rid"] == "eager-1", "the request itself is not changed"


@contextmanager
def routing(server: ScriptedServer) -> Iterator[str]:
    """A scripted server behind a router."""

    class Router(Handler):
        def reply(self, request: Seen) -> None:
            try:
                answer = server.answer(request.path, as_passed_on(request.body))
            except RequestRejectedError as error:
                self.send(422, str(error).encode())
            else:
                self.send(200, json.dumps(answer).encode())

    with listening(Router) as url:
        yield url


@pytest.mark.parametrize("model", range(4))
def test_a_tree_is_the_same_through_a_router(model: int) -> None:
    greedy = SamplingConfig(temperature=0, max_new_tokens=24)
    config = EagerConfig(
        threshold=0.8,
        max_sequences=6,
        monitor="chunk",
        chunk_tokens=4,
        reasoning_end=None,
        sampling=greedy,
    )
    server = ScriptedServer(mixed_distribution(model))
    with scripted_sglang(server) as replica, routing(server) as router:
        direct = run_method(EagerInit(config), eager_sgl.connect(replica))
        through = run_method(EagerInit(config), eager_sgl.connect(replica, router=router))
    assert len(through.sequences) > 1
    for ours, expected in zip(through.sequences, direct.sequences, strict=True):
        assert (ours.token_ids, ours.branch) == (expected.token_ids, expected.branch)
        # When a prompt is no longer observed depends on the order of answers.
        pairs = zip(ours.logprobs, expected.logprobs, strict=True)
        assert all(a == b for a, b in pairs if not math.isnan(a + b))


# Aborts


def event(num_tokens: int, finish: Json | None = None) -> bytes:
    meta = {"finish_reason": finish, "prompt_tokens": 2, "cached_tokens": 1}
    answer = {"output_ids": list(range(num_tokens)), "text": "", "meta_info": meta}
    return f"data: {json.dumps(answer)}\n\n".encode()


class Replica:
    """A server whose streams stop after some events, and which may answer aborts.

    Attributes:
        aborted: ids of the requests that clients wanted to abort.
        closed: set once a client has closed the connection of its request.
    """

    def __init__(self, *num_tokens: int, answers_aborts: bool, delay: float = 0.0) -> None:
        self.aborted: list[str] = []
        self.received: list[Json] = []
        self.closed = threading.Event()
        self._stopped, self._has_sent = threading.Event(), threading.Event()
        self._num_tokens, self._answers, self._delay = num_tokens, answers_aborts, delay

    def handler(self) -> type[Handler]:
        replica = self

        class Server(Handler):
            protocol_version = "HTTP/1.0"

            def abort(self, request: Seen) -> None:
                replica.aborted.append(request.body["rid"])
                replica._stopped.set()

            def reply(self, request: Seen) -> None:
                replica.received.append(request.body)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for number in replica._num_tokens:
                    self.wfile.write(event(number))
                replica._has_sent.set()
                replica._wait(self)

        return Server

    def _wait(self, server: Handler) -> None:
        """Until the request is aborted here, or its connection is closed."""
        if self._answers:
            assert self._stopped.wait(60)
            threading.Event().wait(self._delay)
            server.wfile.write(event(7, {"type": "abort", "message": "Abort"}))
        else:
            server.connection.settimeout(60)
            if server.connection.recv(1) == b"":
                self.closed.set()


async def _aborted(
    client: TokenClient, replica: Replica, num_events: int
) -> tuple[Generation | Exception, list[int]]:
    """The outcome of a request that is aborted after some events, and the tokens of its parts."""
    handle, parts = RequestHandle(), list[int]()
    arrived = asyncio.Event()

    def receive(part: Generation) -> None:
        parts.append(len(part.token_ids))
        if len(parts) == num_events:
            arrived.set()

    work = spawn(client.generate(REQUEST, handle, receive))
    if num_events:
        await asyncio.wait_for(arrived.wait(), 60)
    else:
        await until(lambda: bool(replica.received))
    await client.abort(handle)
    outcome: Any = (await asyncio.gather(work, return_exceptions=True))[0]
    return outcome, parts


@pytest.mark.parametrize("num_tokens", [(1,), (3, 5), (1, 2, 3, 4)])
def test_an_abort_behind_a_router_closes_the_connection_and_keeps_the_last_part(
    num_tokens: tuple[int, ...],
) -> None:
    elsewhere = Replica(*num_tokens, answers_aborts=False)
    named = Replica(answers_aborts=False)
    with listening(elsewhere.handler()) as router, listening(named.handler()) as replica:
        client = TokenClient(Transport(replica, router=router), PROFILE)
        outcome, parts = run(_aborted(client, elsewhere, len(num_tokens)))
        assert elsewhere.closed.wait(60), "SGLang aborts a request whose connection is closed"
    assert isinstance(outcome, Generation)
    assert outcome.token_ids == tuple(range(num_tokens[-1]))
    assert outcome.interrupted is not None
    assert "closing its connection" in outcome.interrupted
    assert parts == list(num_tokens)
    assert len(elsewhere.received) == 1, "an aborted request is not repeated"


def test_an_abort_before_any_token_is_an_error() -> None:
    elsewhere = Replica(answers_aborts=False)
    with listening(elsewhere.handler()) as router, listening(Naming) as replica:
        client = TokenClient(Transport(replica, router=router), PROFILE)
        outcome, _ = run(_aborted(client, elsewhere, 0))
        assert elsewhere.closed.wait(60)
    assert isinstance(outcome, ServerError)
    assert "closing its connection" in str(outcome)
    assert len(elsewhere.received) == 1


def test_a_request_on_the_named_replica_answers_its_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROUTER_ABORT_TIMEOUT", 2.0)
    server = Replica(3, answers_aborts=True)
    with listening(server.handler()) as url:
        outcome, _ = run(_aborted(TokenClient(Transport(url, router=url), PROFILE), server, 1))
    assert isinstance(outcome, Generation)
    assert outcome.token_ids == tuple(range(7)), "with the tokens decoded since the last part"
    sent = server.received[0]["rid"]
    assert server.aborted == [sent]
    assert carried_params(sent) == {"stream_interval": 8}


def test_without_a_router_an_abort_waits_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROUTER_ABORT_TIMEOUT", 0.01)
    server = Replica(3, answers_aborts=True, delay=0.3)
    with listening(server.handler()) as url:
        outcome, _ = run(_aborted(TokenClient(Transport(url), PROFILE), server, 1))
    assert isinstance(outcome, Generation)
    assert outcome.token_ids == tuple(range(7))


@pytest.mark.parametrize(
    ("gate", "top_k", "is_streamed"),
    [("plugin", 0, True), ("pickle", 0, False), (None, 0, False), ("plugin", 5, False)],
)
def test_requests_are_streams_where_an_abort_keeps_only_parts(
    gate: Literal["plugin", "pickle"] | None, top_k: int, is_streamed: bool
) -> None:
    client = TokenClient(
        Transport("http://replica", router="http://router"),
        dataclasses.replace(PROFILE, gate=gate),
    )
    request = Request((9,), 5, SamplingConfig(), top_k=top_k)
    assert client._is_to_be_streamed(request) is is_streamed
    direct = TokenClient(Transport("http://replica"), client.profile)
    assert not direct._is_to_be_streamed(request)
