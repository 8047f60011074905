"""Requests to a server: timeouts, retries, and the exception of every fault.

`eager_sgl.engine.faults` has the policy of the retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import aiohttp

from eager_sgl.engine import limits
from eager_sgl.engine.addresses import require_key, require_seconds, require_url
from eager_sgl.engine.checks import to_json
from eager_sgl.engine.clock import Clock, Pulse
from eager_sgl.engine.connections import Connections, Reply
from eager_sgl.engine.faults import LostError, decoded, failure_of, malformed
from eager_sgl.engine.limits import PATIENT, REQUEST_TIMEOUT, SILENCE_TIMEOUT, Patience
from eager_sgl.engine.loop import spawn
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.router import routed
from eager_sgl.engine.shapes import ShapeError, as_object
from eager_sgl.errors import BrokenAnswerError, ServerError, ServerUnreachableError
from eager_sgl.plugin.carried import plain_id

__all__ = ["Transport"]

_T = TypeVar("_T")

_GENERATE, _ABORT = "/generate", "/abort_request"


@dataclass(frozen=True)
class _Call(Generic[_T]):
    """The arguments of `Transport.post`."""

    method: str
    path: str
    build: Callable[[], Json | None]
    decode: Callable[[Any], _T]
    patience: Patience
    progress: Callable[[_T], None] | None = None
    may_be_partial: bool = False


class _Running(NamedTuple):
    """A request that runs: its id as it was sent, and the clock that can end it."""

    sent_id: str
    clock: Clock


class Transport:
    """Requests to one server over kept-alive connections, from any event loop.

    Args:
        url: base URL of the server.
        api_key: sent as a bearer token.
        request_timeout: seconds in total for one try of a request for tokens.
        silence_timeout: seconds without any byte of its answer. Until the first one, bytes of this
            transport's other requests for tokens count too, but behind a router.
        router: base URL of SGLang's router, which passes `/generate` on to one of several
            replicas, of which the server is one; None without a router. What the router would drop
            of a request is sent in another form, or past it (`eager_sgl.engine.router`).

    Raises:
        ValueError: the URL, the key or a timeout is invalid.
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
        self._running: dict[str, _Running] = {}
        self._pulse = Pulse()

    async def aclose(self) -> None:
        """Close the connections of the running loop; later requests are refused."""
        await self._connections.aclose()

    async def disconnect(self) -> None:
        """Close the connections of the running loop; later requests open others."""
        await self._connections.disconnect()

    async def is_answering(self) -> bool:
        """Whether the server and its router are up: one request each, with a short timeout."""
        urls = [f"{self.url}/model_info", *([f"{self._router}/health"] if self.has_router else [])]
        return all([await self._status_of(url) < 500 for url in urls])

    async def is_healthy(self) -> bool:
        """Whether the server is ready to serve: one request with a short timeout."""
        return await self._status_of(f"{self.url}/health") == 200

    async def _status_of(self, url: str) -> int:
        """The HTTP status of a GET; 503 without an answer."""
        try:
            async with asyncio.timeout(limits.ALIVE_TIMEOUT):
                return (await self._connections.exchange("GET", url)).status
        except (aiohttp.ClientError, OSError, ShapeError):
            return 503

    async def notify(self, path: str, body: Json) -> bool:
        """Send a POST whose answer is not used: one try with a short timeout.

        Returns:
            Whether the server has received it.
        """
        url, data = self.url + path, to_json(body)
        with contextlib.suppress(aiohttp.ClientError, OSError, ShapeError, ServerError):
            async with asyncio.timeout(limits.NOTIFY_TIMEOUT):  # `wait_for` may lose a cancellation
                return (await self._connections.exchange("POST", url, data)).status < 500
        return False

    async def abort(self, request_id: str) -> None:
        """Ask the server to stop a request, whose answer then holds the tokens decoded so far.

        Behind a router the request may run on another replica. Unless it ends soon, its connection
        is closed, and its answer is the last part of it that has arrived.
        """
        running = self._running.get(request_id)
        await self.notify(_ABORT, {"rid": running.sent_id if running else request_id})
        if running and self.has_router:
            await asyncio.sleep(limits.ROUTER_ABORT_TIMEOUT)
            if self._running.get(request_id) is running:
                running.clock.end("was aborted by closing its connection")

    async def get(
        self,
        path: str,
        decode: Callable[[Any], _T] = as_object,
        patience: Patience = PATIENT,
    ) -> _T:
        """The answer to a GET; see `post`."""
        return await self._retrying(_Call("GET", path, lambda: None, decode, patience))

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Any], _T] = as_object,
        progress: Callable[[_T], None] | None = None,
        patience: Patience = PATIENT,
        *,
        may_be_partial: bool = False,
    ) -> _T:
        """The answer to a POST.

        Args:
            path: starts with a slash.
            build: makes the body of every try, so that every try has its own request id.
            decode: of the JSON value; raises `ShapeError` if the route gives no such answer.
            progress: receives the events of a stream before the last, which is returned.
            patience: how often the request is tried.
            may_be_partial: whether the answer may be incomplete, after an abort or a broken stream
                of which `progress` has received a part.

        Raises:
            ServerError: see the subclasses in `eager_sgl.errors`.
            ValueError: the body cannot be written as JSON.
        """
        call = _Call("POST", path, build, decode, patience, progress, may_be_partial)
        return await self._retrying(call)

    async def _retrying(self, call: _Call[_T]) -> _T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, pause in enumerate(call.patience.jittered_pauses(), 1):
            body = call.build()
            try:
                return await self._try(call, body)
            except LostError as lost:
                if not lost.again:
                    raise lost.error from lost
                if pause is None:
                    tried = f"tried {number} times in {loop.time() - started:.0f} s"
                    raise type(lost.error)(f"{lost.error}; {tried}") from lost
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _try(self, call: _Call[_T], body: Json | None) -> _T:
        base, body = self._addressed(call.path, body)
        has_progressed = False

        def pass_on(event: object) -> None:
            nonlocal has_progressed
            if call.progress is not None:
                call.progress(call.decode(event))
                has_progressed = call.may_be_partial

        try:
            reply = await self._reply_in_time(call, base, body, pass_on)
            return decoded(self.url, base + call.path, reply, call.decode)
        except LostError as lost:
            if lost.may_run:
                await self._abort(body)
            if not has_progressed:
                raise
            raise BrokenAnswerError(f"an answer broke off: {lost.error}") from lost
        except asyncio.CancelledError:
            spawn(self._abort(body))
            raise

    def _addressed(self, path: str, body: Json | None) -> tuple[str, Json | None]:
        """The base URL that takes a request, and its body in the form that passes there."""
        if self.has_router and path == _GENERATE and (passed := routed(body or {})) is not None:
            return self._router, passed
        return self.url, body

    async def _reply_in_time(
        self,
        call: _Call[Any],
        base: str,
        body: Json | None,
        pass_on: Callable[[object], None],
    ) -> Reply:
        url, clock = base + call.path, self._clock_of(call, body)
        data = None if body is None else to_json(body)
        sent_id = (body or {}).get("rid", "")
        self._running[plain_id(sent_id)] = _Running(sent_id, clock)
        try:
            async with clock:
                return await self._connections.exchange(
                    call.method, url, data, clock.note_bytes, pass_on
                )
        except aiohttp.ClientError as error:
            raise failure_of(base, error) from error
        except TimeoutError as error:
            if not clock.reason:  # of the system
                raise failure_of(base, error) from error
            if clock.was_ended:
                aborted = ServerError(f"a request to {url} {clock.reason}")
                raise LostError(aborted, may_run=False, again=False) from None
            unreachable = ServerUnreachableError(f"{url} {clock.reason}")
            raise LostError(unreachable, again=call.patience.redraws) from None
        except OSError as error:
            raise failure_of(base, error) from error
        except ShapeError as error:
            raise malformed(url, str(error)) from error
        finally:
            self._running.pop(plain_id(sent_id), None)

    async def _abort(self, body: Json | None) -> None:
        if body is not None and "rid" in body:
            await self.notify(_ABORT, {"rid": body["rid"]})

    def _clock_of(self, call: _Call[Any], body: Json | None) -> Clock:
        """A request for tokens that times out is aborted, and may answer with those it decoded."""
        # Behind a router other answers may be those of other replicas.
        pulse = self._pulse if call.path == _GENERATE and not self.has_router else Pulse()
        if call.patience.timeout is not None:
            total, silence = call.patience.timeout, math.inf
        elif call.path == _GENERATE:
            total, silence = self._request_timeout, self._silence_timeout
        else:
            total, silence = limits.SMALL_TIMEOUT, math.inf
        if not call.may_be_partial:
            return Clock(total, silence, pulse)

        def abort() -> None:
            spawn(self._abort(body))

        return Clock(total, silence, pulse, limits.ABORT_TIMEOUT, abort)
