"""An HTTP proxy for a real SGLang server that injects faults.

    python -m tests.faults.proxy http://127.0.0.1:30000 --port 30001 --probability 0.05

Every request fails with a probability, by a fault drawn from the chosen kinds. The injected faults
are counted, and printed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import aiohttp
from aiohttp import web

STATUSES = {"500": 500, "502": 502, "503": 503}
SPOILT = {"garbage": b"<html>garbage</html>", "shape": b'{"unexpected": [null]}'}
QUICK = (*STATUSES, *SPOILT, "truncated", "reset", "broken_stream")
SLOW = ("hang", "trickle")
"""Faults that last until the client disconnects."""
MAX_EVENTS = 3
_HOP_BY_HOP = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


class FaultProxy:
    """Passes requests on to a server, or fails.

    Args:
        upstream: base URL of the server.
        probability: of a fault, per request.
        seed: of the draws.
        kinds: of faults, drawn uniformly.

    Attributes:
        probability: may be changed while it serves.
        injected: faults so far, by kind.
        num_requests: so far, faults included.
    """

    def __init__(
        self, upstream: str, probability: float, seed: int = 0, kinds: Sequence[str] = QUICK
    ) -> None:
        if wrong := set(kinds) - {*QUICK, *SLOW}:
            raise ValueError(f"unknown faults {sorted(wrong)}; choose from {(*QUICK, *SLOW)}")
        self._upstream = upstream.rstrip("/")
        self.probability = probability
        self._kinds = tuple(kinds)
        self._random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.num_requests = 0

    async def serve(self, port: int, ready: asyncio.Future[int]) -> None:
        """Serve until cancelled."""
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A client that disconnects ends its request upstream too.
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        ) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024, shutdown_timeout=0.1)
            await site.start()
            ready.set_result(runner.addresses[0][1])
            try:
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.num_requests += 1
        kind = self._draw()
        if kind in STATUSES:
            return web.Response(status=STATUSES[kind], text="an injected fault")
        if kind in ("reset", "hang", "trickle"):
            return await self._answer_never(request, kind)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        url = self._upstream + request.path_qs
        try:
            async with self._session.request(
                request.method, url, data=body, headers=headers
            ) as reply:
                return await self._relay(request, reply, kind)
        except (aiohttp.ClientError, OSError):
            return await self._answer_never(request, "reset")

    def _draw(self) -> str | None:
        if self._random.random() >= self.probability:
            return None
        kind = self._random.choice(self._kinds)
        self.injected[kind] += 1
        return kind

    async def _answer_never(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse()
        if kind == "trickle":
            response.content_length = 2**30
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.1)
        if kind == "hang":
            await asyncio.Event().wait()
        _cut(request)
        return response

    async def _relay(
        self, request: web.Request, reply: aiohttp.ClientResponse, kind: str | None
    ) -> web.StreamResponse:
        if reply.content_type == "text/event-stream":
            return await self._relay_events(request, reply, kind)
        data = await reply.read()
        if kind in SPOILT:
            return web.Response(body=SPOILT[kind], content_type="application/json")
        response = web.StreamResponse(status=reply.status)
        response.content_type = reply.content_type
        response.content_length = len(data)
        await response.prepare(request)
        await response.write(data if kind is None else data[: len(data) // 2])
        if kind is not None:
            _cut(request)
        return response

    async def _relay_events(
        self, request: web.Request, reply: aiohttp.ClientResponse, kind: str | None
    ) -> web.StreamResponse:
        """All events of a stream, or the first few and a fault."""
        response = web.StreamResponse(status=reply.status)
        response.content_type = reply.content_type
        await response.prepare(request)
        left = self._random.randint(0, MAX_EVENTS)
        buffer = b""
        async for piece in reply.content.iter_any():
            *events, buffer = (buffer + piece).split(b"\n\n")
            for event in events:
                if kind is not None and not left:
                    await self._spoil_event(response, event, kind)
                    _cut(request)
                    return response
                left -= 1
                await response.write(event + b"\n\n")
        return response

    async def _spoil_event(self, response: web.StreamResponse, event: bytes, kind: str) -> None:
        if kind in SPOILT:
            await response.write(b"data: " + SPOILT[kind] + b"\n\n")
        elif kind == "truncated":
            await response.write(event[: len(event) // 2])


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextmanager
def fault_proxy(
    upstream: str, probability: float, seed: int = 0, kinds: Sequence[str] = QUICK, port: int = 0
) -> Iterator[tuple[str, FaultProxy]]:
    """A proxy's URL and the proxy, which runs in a separate thread."""
    proxy = FaultProxy(upstream, probability, seed, kinds)
    with serving(proxy, port) as url:
        yield url, proxy


@contextmanager
def serving(proxy: FaultProxy, port: int = 0) -> Iterator[str]:
    """The URL of a proxy, which runs in a separate thread."""
    loop = asyncio.new_event_loop()
    ready = loop.create_future()
    task = loop.create_task(proxy.serve(port, ready))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        number = asyncio.run_coroutine_threadsafe(_result(ready), loop).result(30)
        yield f"http://127.0.0.1:{number}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


async def _result(future: asyncio.Future[int]) -> int:
    return await future


def main() -> None:
    parser = argparse.ArgumentParser(description="A proxy that injects faults.")
    parser.add_argument("upstream", help="base URL of an SGLang server")
    parser.add_argument("--port", type=int, default=0, help="0 for any free port")
    parser.add_argument("--probability", type=float, default=0.05, help="of a fault, per request")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=QUICK, choices=(*QUICK, *SLOW))
    options = parser.parse_args()
    with fault_proxy(
        options.upstream, options.probability, options.seed, options.kinds, options.port
    ) as (url, proxy):
        print(url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        counts = {"requests": proxy.num_requests, "injected": dict(proxy.injected)}
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
