"""`Client` and `AsyncClient` over HTTP: several threads, Ctrl-C, streams that are left."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest

from eager_sgl import AsyncClient, Client, TokenLedger
from eager_sgl.embedded.address import reserved_port
from eager_sgl.engine import limits
from eager_sgl.errors import RequestRejectedError, ServerUnreachableError
from eager_sgl.generate.events import Completed
from tests.fakes.decoding import endless
from tests.fakes.http_server import (
    Handler,
    Seen,
    hanging,
    listening,
    scripted_sglang,
    serving,
)
from tests.fakes.scripted import ScriptedServer
from tests.fakes.waiting import wait_until
from tests.generate.prompts import METHODS

ENDLESS = endless(1)


@pytest.fixture
def url(scripted: ScriptedServer) -> Iterator[str]:
    with scripted_sglang(scripted) as url:
        yield url


def test_several_threads_share_a_client(url: str) -> None:
    with Client(url) as client, ThreadPoolExecutor(8) as pool:
        prompts = [(9,) * number for number in range(1, 17)]
        results = list(pool.map(lambda p: client.generate(p, METHODS["chunk"]), prompts))
        assert [result.prompt_ids for result in results] == prompts
        assert all(result.sequences for result in results)


@pytest.mark.parametrize("up_first", [True, False])
def test_a_server_that_hangs_does_not_delay_one_that_answers(up_first: bool) -> None:
    """Or one of several servers would take an endpoint out of service whose probe waits 5 s."""

    async def is_answering(*urls: str) -> bool:
        client = AsyncClient(urls)
        try:
            async with asyncio.timeout(limits.ALIVE_TIMEOUT / 2):
                return await client.is_answering()
        finally:
            await client.aclose()

    with hanging() as hung, serving((200, "{}")) as (up, _):
        assert asyncio.run(is_answering(*((up, hung) if up_first else (hung, up))))


def open_sessions() -> set[int]:
    sessions = (thing for thing in gc.get_objects() if type(thing) is aiohttp.ClientSession)
    return {id(session) for session in sessions if not session.closed}


@pytest.mark.parametrize("number", [1, 2])
def test_a_client_that_cannot_connect_leaves_no_connection_open(number: int) -> None:
    async def connect() -> None:
        with pytest.raises(ServerUnreachableError):
            await AsyncClient(
                [f"http://127.0.0.1:{port}" for port in range(1, 1 + number)]
            ).replicas()

    before = open_sessions()
    asyncio.run(connect())
    assert open_sessions() <= before


def test_a_client_connects_once_its_server_is_up(scripted: ScriptedServer) -> None:
    async def connect_twice(port: int) -> None:
        client = AsyncClient(f"http://127.0.0.1:{port}")
        with pytest.raises(ServerUnreachableError, match="cannot reach"):
            await client.replicas()
        with scripted_sglang(scripted, port=port):
            assert (await client.generate((9,), METHODS["parallel"])).sequences
            await client.aclose()

    with reserved_port("127.0.0.1", 0) as port:
        asyncio.run(connect_twice(port))


def test_a_cancelled_task_leaves_connecting_to_the_others(url: str) -> None:
    async def generate() -> None:
        async with aclosing(AsyncClient(url)) as client:
            tasks = [
                asyncio.create_task(client.generate((9,), METHODS["parallel"])) for _ in range(2)
            ]
            await asyncio.sleep(0)  # the first of them connects
            tasks[0].cancel()
            first, second = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert not isinstance(second, BaseException), second

    asyncio.run(generate())


def test_a_blocking_stream_ends_with_the_result(url: str) -> None:
    with Client(url) as client:
        events = list(client.stream((9,), METHODS["chunk"]))
    last = events[-1]
    assert isinstance(last, Completed)
    assert last.result.sequences


def test_a_blocking_stream_and_map_may_be_left(url: str) -> None:
    with Client(url) as client:
        for _ in client.stream((9,), METHODS["chunk"]):
            break
        for _ in client.map([(9,)] * 5, METHODS["chunk"], concurrency=2):
            break
        assert client.generate((9,), METHODS["parallel"]).sequences


def test_a_blocking_map_shares_tokens(url: str) -> None:
    with Client(url) as client:
        ledger, methods = TokenLedger(100), METHODS["trie_parallel"]
        items = list(client.map([(9,)] * 4, methods, budget=ledger, utility=lambda t, s: 1.0))
    assert sum(item.result.counts.generated for item in items) == ledger.spent


PROGRAM = """
import json, sys, threading
from eager_sgl import Client
from eager_sgl.generate.results import partial_of
from tests.generate.prompts import METHODS

with Client(sys.argv[1]) as client:
    try:
        print("started", flush=True)
        client.generate((9,), METHODS["parallel"])
    except KeyboardInterrupt as interrupt:
        partial = partial_of(interrupt)
        print("partial", partial.stopped, partial.counts.generated, flush=True)
        print("threads", threading.active_count(), flush=True)
        raise
"""


def _answer_of(server: ScriptedServer, request: Seen) -> Any:
    """The status and the JSON value."""
    try:
        return 200, server.answer(request.path, request.body)
    except RequestRejectedError as error:
        return 400, {"error": {"message": str(error)}}


class Endless(Handler):
    """SGLang whose requests for tokens run until they are aborted."""

    server_of_answers: ClassVar[ScriptedServer]
    running: ClassVar[dict[str, threading.Event]]
    aborted: ClassVar[list[str]]

    def abort(self, request: Seen) -> None:
        rid = request.body["rid"]
        if rid in self.running:
            self.aborted.append(rid)
            self.running[rid].set()

    def reply(self, request: Seen) -> None:
        body = request.body
        status, answer = _answer_of(self.server_of_answers, request)
        params = (body or {}).get("sampling_params", {})
        if "stop_token_ids" in params and params["max_new_tokens"] == 40:
            stopped = self.running[body["rid"]] = threading.Event()
            if not stopped.wait(60):
                return self.hang_up()
            answer["output_ids"] = answer["output_ids"][:3]
            answer["meta_info"]["finish_reason"] = {"type": "abort", "message": "Abort"}
        return self.send(status, json.dumps(answer).encode())


def _child(program: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_ctrl_c_aborts_the_requests_and_has_the_partial_result() -> None:
    class Server(Endless):
        server_of_answers = ScriptedServer(ENDLESS)
        running: ClassVar[dict[str, threading.Event]] = {}
        aborted: ClassVar[list[str]] = []

    with listening(Server) as url:
        child = _child(PROGRAM, url)
        try:
            assert wait_until(lambda: len(Server.running) == 5)
            os.kill(child.pid, signal.SIGINT)
            output, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    assert "partial cancelled 15" in output
    assert "KeyboardInterrupt" in errors
    assert sorted(Server.aborted) == sorted(Server.running)
