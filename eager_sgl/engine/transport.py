"""Requests to a server: how long each may take, which are tried again, and every fault by its name.

What is tried again, and why that leaves the distribution of what comes out as it is:

- *Refused, reset or closed connections; 429, 500, 502, 503, 504; a body that is no JSON, a
  truncated one, one of another shape.* Nothing of such an answer was used. To draw anew is to
  condition on the fault's absence, and a fault of network, gateway or load does not look at the
  tokens. It looks at time, though: where connections die in mid-request, a longer request dies more
  often, so that long ones are under-represented, by at most the share of requests that died. Chunks
  are short, and broken streams are continued, which keeps that share small.
- *Connecting takes too long*, and time-outs of routes that draw nothing: nothing was drawn.
- *A request for tokens is silent, or takes too long*: to draw it anew would favour short sequences,
  since long ones take longer. So it is asked to stop (`/abort_request`), and its answer then holds
  what it has decoded, up to a moment that no token has chosen: that stays, and the rest is asked
  for from there, which is exact. A server that does not even answer that within some seconds hangs;
  what it would have answered is unknown to everyone, and the request is tried again.
- *A stream that breaks off* after a part was passed on is not tried again here: the part stays, and
  `eager_sgl.executor` asks for the rest.

Answers that are no faults are not tried again: 400, 401, 403, 404, 413, 422 and their like.

A failed try may have made the server decode tokens that were never delivered. How many is unknown
here, and no count holds them. Every try has a request id of its own, and one that may still be
running is aborted, so that the server does not go on decoding for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import aiohttp
import orjson

from eager_sgl.engine.addresses import require_key, require_seconds, require_url
from eager_sgl.engine.checks import to_json
from eager_sgl.engine.connections import Connections, Reply
from eager_sgl.engine.faults import LostError, failure_of, malformed, refusal_of
from eager_sgl.engine.limits import (
    PATIENT,
    REQUEST_TIMEOUT,
    SILENCE_TIMEOUT,
    SMALL_TIMEOUT,
    Clock,
    Patience,
)
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import ShapeError, as_object, shown
from eager_sgl.errors import BrokenAnswerError, ServerUnreachableError

__all__ = ["Transport"]

_T = TypeVar("_T")

_ABORT_TIMEOUT = 10.0
_NOTIFY_TIMEOUT = 2.0
_ALIVE_TIMEOUT = 5.0
_GENERATE, _ABORT = "/generate", "/abort_request"


@dataclass(frozen=True)
class _Request(Generic[_T]):
    """What `Transport.post` and `Transport.start` are asked for."""

    method: str
    path: str
    build: Callable[[], Json | None]
    decode: Callable[[Any], _T]
    patience: Patience
    progress: Callable[[_T], None] | None = None
    may_be_partial: bool = False


class Transport:
    """Requests to one server over kept-alive connections; safe to use from many threads.

    Args:
        url: base URL of the server.
        api_key: sent as a bearer token.
        request_timeout: seconds in total for one try of a request for tokens.
        silence_timeout: seconds without any byte of its answer.
        router: base URL of what passes `/generate` on to one of several replicas, of which the
            server is one; None where there is one server.

    Raises:
        ValueError: a URL, a key or a limit that cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        request_timeout: float = REQUEST_TIMEOUT,
        silence_timeout: float = SILENCE_TIMEOUT,
        router: str | None = None,
    ) -> None:
        self.url = require_url(url)
        self.has_router = router is not None
        self._router = require_url(url if router is None else router)
        self.api_key = api_key
        headers = {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {require_key(api_key)}"
        self._request_timeout = require_seconds("request_timeout", request_timeout)
        self._silence_timeout = require_seconds("silence_timeout", silence_timeout)
        self._connections = Connections(headers)

    def notify(self, path: str, body: Json) -> None:
        """Send a POST whose answer does not matter, once and without waiting long for it."""
        self._connections.run(self._notify(path, body))

    def is_answering(self) -> bool:
        """Whether the server, and the router before it, are there: one quick try."""
        urls = [f"{self.url}/model_info", *([f"{self._router}/health"] if self.has_router else [])]
        return all(self._connections.run(self._is_answering(url)) for url in urls)

    async def _is_answering(self, url: str) -> bool:
        work = self._connections.exchange("GET", url)
        try:
            reply = await asyncio.wait_for(work, _ALIVE_TIMEOUT)
        except (aiohttp.ClientError, OSError, ShapeError):
            return False
        return reply.status < 500

    def get(
        self,
        path: str,
        decode: Callable[[Any], _T] = as_object,
        patience: Patience = PATIENT,
    ) -> _T:
        """The answer to a GET; see `post`."""
        request = _Request("GET", path, lambda: None, decode, patience)
        return self._connections.run(self._retrying(request))

    def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Any], _T] = as_object,
        progress: Callable[[_T], None] | None = None,
        patience: Patience = PATIENT,
    ) -> _T:
        """The answer to a POST.

        Args:
            path: begins with a slash.
            build: makes the body, anew for every try, so that each has a request id of its own.
            decode: of a JSON value; raises `ShapeError` where it is none that the route gives.
            progress: gets what a stream brings before its last answer, which is returned.
            patience: how often it is tried.

        Raises:
            ServerError: see the subclasses in `eager_sgl.errors`.
            ValueError: the body cannot be written.
        """
        request = _Request("POST", path, build, decode, patience, progress)
        return self._connections.run(self._retrying(request))

    def start(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Any], _T],
        done: Callable[[_T | Exception], None],
        progress: Callable[[_T], None] | None = None,
    ) -> None:
        """A POST that is not waited for, and whose answer may be a part of what was asked for.

        Args:
            path: begins with a slash.
            build: as of `post`.
            decode: as of `post`; also of what comes when the server was told to stop.
            done: gets what `post` would return or raise, in the thread that serves connections,
                which must not be kept.
            progress: as of `post`, in the same thread.
        """
        request = _Request("POST", path, build, decode, PATIENT, progress, may_be_partial=True)

        async def work() -> None:
            try:
                answer: _T | Exception = await self._retrying(request)
            except Exception as error:
                answer = error
            done(answer)

        self._connections.spawn(work())

    async def _retrying(self, request: _Request[_T]) -> _T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, pause in enumerate((*request.patience.pauses, None), 1):
            body = request.build()
            try:
                return await self._try(request, body)
            except LostError as lost:
                if not lost.again:
                    raise lost.error from lost
                if pause is None:
                    tried = f"tried {number} times in {loop.time() - started:.0f} s"
                    raise type(lost.error)(f"{lost.error}; {tried}") from lost
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
        raise AssertionError("the last try returns or raises")

    async def _try(self, request: _Request[_T], body: Json | None) -> _T:
        base = self._router if request.path == _GENERATE else self.url
        passed_on = False

        def pass_on(event: object) -> None:
            nonlocal passed_on
            if request.progress is not None:
                request.progress(request.decode(event))
                passed_on = request.may_be_partial

        try:
            reply = await self._reply_in_time(request, base, body, pass_on)
            return self._answer(base + request.path, reply, request.decode)
        except LostError as lost:
            if lost.may_run and body is not None and "rid" in body:
                await self._notify(_ABORT, {"rid": body["rid"]})
            if not passed_on:
                raise
            raise BrokenAnswerError(f"an answer broke off: {lost.error}") from lost

    async def _reply_in_time(
        self,
        request: _Request[Any],
        base: str,
        body: Json | None,
        pass_on: Callable[[object], None],
    ) -> Reply:
        url, clock = base + request.path, self._clock_of(request)
        data = None if body is None else to_json(body)
        exchange = asyncio.ensure_future(
            self._connections.exchange(request.method, url, data, clock.heard_from, pass_on)
        )
        try:
            if await clock.runs_out_before(exchange) and not (
                request.may_be_partial and body and await self._stops(exchange, body)
            ):
                error = ServerUnreachableError(f"{url} {clock.reason}")
                raise LostError(error, again=request.patience.redraws)
            return exchange.result()
        except (aiohttp.ClientError, OSError) as error:
            raise failure_of(base, error) from error
        except ShapeError as error:
            raise malformed(url, str(error)) from error
        finally:
            exchange.cancel()

    async def _stops(self, exchange: asyncio.Future[Reply], body: Json) -> bool:
        """Ask the server to stop a request; whether its answer, as far as it goes, has come."""
        await self._notify(_ABORT, {"rid": body["rid"]})
        await asyncio.wait({exchange}, timeout=_ABORT_TIMEOUT)
        return exchange.done()

    def _clock_of(self, request: _Request[Any]) -> Clock:
        if request.patience.timeout is not None:
            return Clock(request.patience.timeout, math.inf)
        if request.path == _GENERATE:
            return Clock(self._request_timeout, self._silence_timeout)
        return Clock(SMALL_TIMEOUT, math.inf)

    async def _notify(self, path: str, body: Json) -> None:
        work = self._connections.exchange("POST", self.url + path, to_json(body))
        with contextlib.suppress(aiohttp.ClientError, OSError, ShapeError):
            await asyncio.wait_for(work, _NOTIFY_TIMEOUT)

    def _answer(self, url: str, reply: Reply, decode: Callable[[Any], _T]) -> _T:
        if reply.status == 200:
            try:
                return decode(orjson.loads(reply.body))
            except json.JSONDecodeError as error:
                text = shown(reply.body.decode(errors="replace"))
                raise malformed(url, f"{text} is no JSON") from error
            except ShapeError as error:
                raise malformed(url, str(error)) from error
        raise refusal_of(self.url, url, reply)
