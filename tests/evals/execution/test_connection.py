"""The servers of a run: what is asked of them before and between its prompts."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eager_sgl import AsyncClient
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.replicas import Replicas
from eager_sgl.errors import AuthenticationError, ServerUnsuitableError
from evals import run
from evals.execution import connection
from evals.execution.connection import Server, find_unfit, hosted
from evals.execution.evaluation import _monitors
from evals.execution.progress.view import PlainView
from evals.execution.stages import answers
from evals.tasks import Sample
from tests.evals.fakes.scripted_run import PROFILE, ScriptedClient, server
from tests.fakes.scripted import ScriptedServer, mixed_distribution

SAMPLES = [Sample(f"p{i}", [{"role": "user", "content": f"{i}"}], None, None) for i in range(60)]


class Encoding(ScriptedClient):
    """Counts the prompts that are encoded at the same time; may refuse the key from the n-th on."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.num_running = self.max_running = self.num_asked = 0

    async def encode(self, prompt: list[dict[str, str]]) -> tuple[int, ...]:
        self.num_asked += 1
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            await asyncio.sleep(0.01)
        finally:
            self.num_running -= 1
        if self.fails_at is not None and self.num_asked >= self.fails_at:
            raise AuthenticationError("the key is refused")
        return (1,) * (PROFILE.context_length if int(prompt[0]["content"]) % 2 else 7)


def test_prompts_are_encoded_several_at_a_time() -> None:
    client = Encoding()
    unfit = asyncio.run(find_unfit(SAMPLES, server(client)))
    assert list(unfit) == [sample.id for sample in SAMPLES[1::2]]
    assert client.max_running == connection.NUM_TOKENISING


def test_a_refused_key_ends_the_search_for_prompts_that_do_not_fit() -> None:
    client = Encoding(fails_at=20)
    with pytest.raises(AuthenticationError):
        asyncio.run(find_unfit(SAMPLES, server(client)))
    assert client.num_running == 0
    assert client.num_asked < len(SAMPLES)


@pytest.mark.parametrize(
    ("num_servers", "is_alive", "said"),
    [
        (1, True, "it answers"),
        (1, False, "it does not answer"),
        (2, True, "one of them answers"),
        (2, False, "none of them answers"),
    ],
)
def test_a_notice_says_whether_servers_answer(num_servers: int, is_alive: bool, said: str) -> None:
    whole = server(ScriptedClient(is_alive=is_alive))
    urls = ("http://a", "http://b")[:num_servers]
    assert asyncio.run(answers(Server(whole.client, urls, whole.check))) == said


class Answering(BaseHTTPRequestHandler):
    """A server that is up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def test_one_server_that_answers_is_enough() -> None:
    async def is_answering(*urls: str) -> bool:
        client = AsyncClient(urls)
        try:
            return await client.is_answering()
        finally:
            for transport in client.transports:
                await transport.aclose()

    dead = "http://127.0.0.1:9"
    listening = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=listening.serve_forever, daemon=True).start()
    try:
        up = f"http://127.0.0.1:{listening.server_port}"
        assert asyncio.run(is_answering(dead, up))
        assert not asyncio.run(is_answering(dead))
    finally:
        listening.shutdown()
        listening.server_close()


def test_given_servers_are_named_and_connected_in_their_order(tmp_path: Path) -> None:
    given = run.parse_settings(["--server", "http://a,http://b"], run.METHODS).server
    stream = io.StringIO()
    with hosted(given, 0, 0, tmp_path / "log", PlainView(stream)) as host:
        assert host.settings.urls == ("http://a", "http://b")
    assert stream.getvalue() == "connecting to http://a, http://b\n"


class Probed(ScriptedClient):
    """A client of servers that were probed."""

    def __init__(self, replicas: Replicas) -> None:
        super().__init__()
        self._replicas = replicas

    async def call(self, operation: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._replicas.call(operation)


def monitors(*methods: str, monitor: str = "auto", gate: Any = "auto", **options: bool) -> str:
    """What a run says of its monitor."""
    given = ["--methods", ",".join(methods), "--monitor", monitor]
    experiment = run.parse_settings(given, run.METHODS).experiment

    async def say() -> str:
        scripted: Any = ScriptedServer(mixed_distribution(1), **options)  # type: ignore[arg-type]
        replicas = Replicas.of(await TokenClient.connect(scripted, gate=gate))
        return await _monitors(experiment, server(Probed(replicas)))

    return asyncio.run(say())


PLUGIN, PICKLE = "gate (the server's plugin)", "gate (a processor that requests carry; "
NONE = "chunk (no gate: it has no plugin; install eager_sgl beside it)"


def test_a_run_says_how_steps_are_observed_and_why() -> None:
    assert monitors("eager_init", "best_first", allows_gate=True) == PLUGIN
    assert monitors("eager_init", allows_gate=True, monitor="chunk") == "chunk"
    assert monitors("eager_init", "swor", allows_pickle=True) == NONE
    pickled = monitors("eager_init", "swor", allows_pickle=True, gate="pickle")
    assert pickled.startswith(PICKLE)
    assert "; of searches: chunk (no gate: its gate is a pickle" in pickled
    with pytest.raises(ServerUnsuitableError, match="it has no plugin"):
        monitors("eager_init", monitor="gate")


def test_the_option_reaches_the_client() -> None:
    assert run.parse_settings([], run.METHODS).server.gate == "auto"
    assert run.parse_settings(["--gate", "pickle"], run.METHODS).server.gate == "pickle"
    search = run.parse_settings(["--monitor", "gate"], run.METHODS).experiment.search
    assert search.monitor == "gate"
    with pytest.raises(ValueError, match="gate is eye; it must be one of"):
        AsyncClient("http://a", gate="eye")  # type: ignore[arg-type]
