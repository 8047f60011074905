"""SGLang's router before the embedded runtime: what it passes on, and how aborts reach the server.

    make router

The router (0.3.2) comes from its package and is not installed. Every line is a fact that
`eager_sgl.engine.router` rests on, as it was observed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

import eager_sgl
from eager_sgl import EagerConfig, EagerInit, EmbeddedRuntime, SamplingConfig, TokenEndpoint
from eager_sgl.embedded.address import DEFAULT_HOST, reserved_port, url_of
from eager_sgl.engine.protocol import new_request_id
from tests.conftest import REASONER
from tests.fakes.endpoint import run_method
from tests.fakes.waiting import until

PACKAGE = "sglang-router==0.3.2"
TOKENS = "sglang:generation_tokens_total"
PROMPT = "Numbers: 03 05 07 11. Target: 24.\n"


@contextlib.contextmanager
def routing(url: str, api_key: str) -> Iterator[str]:
    """The URL of a router before a server."""
    uvx, host = str(Path(sys.executable).with_name("uvx")), DEFAULT_HOST
    with reserved_port(host, 0) as port, reserved_port(host, 0) as metrics:
        command = [uvx, "--from", PACKAGE, "sglang-router", "launch", "--host", host]
        command += ["--port", str(port), "--prometheus-port", str(metrics), "--worker-urls", url]
        command += ["--prometheus-host", host, "--api-key", api_key, "--log-level", "error"]
        router = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield url_of(host, port)
        finally:
            router.terminate()
            router.wait(30)


def _body(num_tokens: int, *, stream: bool = True, **params: object) -> dict[str, Any]:
    sampling = {"max_new_tokens": num_tokens, "ignore_eos": True, "temperature": 1.0, **params}
    return {
        "rid": new_request_id(),
        "input_ids": [1, 5, 6, 7],
        "sampling_params": sampling,
        "stream": stream,
    }


class Trial:
    """Requests to a server, directly and through its router."""

    def __init__(self, session: aiohttp.ClientSession, server: str, router: str) -> None:
        self._session, self._server = session, server
        self.urls = {"direct": server, "router": router}

    async def router_answers(self) -> bool:
        """Whether the router passes requests on."""
        url, body = f"{self.urls['router']}/generate", _body(1, stream=False)
        try:
            async with self._session.post(url, json=body) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def _decoded(self) -> float:
        """Tokens of all requests that have ended."""
        async with self._session.get(f"{self._server}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(TOKENS))

    async def _events(self, way: str, body: dict[str, Any]) -> list[tuple[float, int]]:
        """The time of every event of a stream, and the number of its tokens."""
        events: list[tuple[float, int]] = []
        async with self._session.post(f"{self.urls[way]}/generate", json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    tokens = len(json.loads(line[6:])["output_ids"])
                    events.append((time.monotonic(), tokens))
        return events

    async def close(self, way: str, *, stream: bool) -> str:
        """Close the connection of a running request."""
        before = await self._decoded()
        work = asyncio.create_task(self._events(way, _body(900, stream=stream)))
        await asyncio.sleep(0.6)
        work.cancel()
        started = time.monotonic()

        async def has_ended() -> bool:
            return await self._decoded() != before

        with contextlib.suppress(TimeoutError):
            await until(has_ended, seconds=15, pause=0.02)
        seconds, tokens = time.monotonic() - started, await self._decoded() - before
        return f"the server ends it after {1000 * seconds:.0f} ms, with {tokens:.0f} of 900 tokens"

    async def gaps(self, way: str) -> str:
        """The time between the events of a stream."""
        times = [moment for moment, _ in await self._events(way, _body(300))]
        gaps = [1000 * (b - a) for a, b in itertools.pairwise(times)]
        return f"{statistics.median(gaps):.1f} ms between two events, at most {max(gaps):.0f} ms"

    async def interval(self, way: str) -> str:
        """The events of a stream whose interval is 50 tokens."""
        return f"{len(await self._events(way, _body(200, stream_interval=50)))} events"


async def observe(server: str, router: str, api_key: str) -> None:
    """Print what was observed without eager_sgl's client."""
    headers = {"Authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        trial = Trial(session, server, router)
        await until(trial.router_answers, seconds=60, pause=0.2)
        for way in trial.urls:
            for stream in (True, False):
                kind = "stream" if stream else "whole answer"
                print(f"{way}: a {kind} is closed: {await trial.close(way, stream=stream)}")
            print(f"{way}: a stream of 300 tokens: {await trial.gaps(way)}")
            print(f"{way}: 200 tokens, stream_interval 50: {await trial.interval(way)}")


def trees(endpoint: TokenEndpoint) -> list[tuple[int, ...]]:
    """Greedy sequences that branch."""
    greedy = SamplingConfig(temperature=0, max_new_tokens=120)
    config = EagerConfig(threshold=0.7, max_sequences=8, monitor="chunk", sampling=greedy)
    result = run_method(EagerInit(config), endpoint, PROMPT)
    return [sequence.token_ids for sequence in result.sequences]


def main() -> None:
    log_path = Path(tempfile.mkdtemp()) / "runtime.log"
    options = {"random_seed": 0, "enable_metrics": True}
    with (
        EmbeddedRuntime(REASONER, log_path=log_path, server_args=options) as runtime,
        routing(runtime.url, runtime.api_key) as router,
    ):
        asyncio.run(observe(runtime.url, router, runtime.api_key))
        key = runtime.api_key
        direct = trees(eager_sgl.connect(runtime.url, api_key=key))
        through = trees(eager_sgl.connect(runtime.url, api_key=key, router=router))
        same = "the same" if through == direct else "OTHER"
        print(f"client: {len(direct)} sequences directly, {same} through the router")


if __name__ == "__main__":
    main()
