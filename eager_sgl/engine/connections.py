"""The HTTP connections to a server.

A waiting request costs a socket and a few objects. Every event loop has connections of its own, and
so has a forked process: two processes that read from the same connection would take each other's
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import weakref
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import NamedTuple

import aiohttp
import orjson

from eager_sgl.engine.limits import CLOSE_TIMEOUT, CONNECT_TIMEOUT
from eager_sgl.engine.loop import io_loop, is_io_thread
from eager_sgl.engine.protocol import event_status
from eager_sgl.engine.shapes import ShapeError
from eager_sgl.errors import ServerUnreachableError

__all__ = ["Connections", "Reply"]

_EVENT_START, _EVENT_END, _DONE = b"data: ", b"\n\n", b"data: [DONE]"
_Loop = asyncio.AbstractEventLoop


class Reply(NamedTuple):
    """An HTTP status and a body; of a stream those of its last event."""

    status: int
    body: bytes


class Connections:
    """Kept-alive connections, usable from any event loop and in forked processes.

    Args:
        headers: sent with every request.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        # A child process leaves its parent's session to the parent, which closes it.
        self._sessions: dict[tuple[int, _Loop], aiohttp.ClientSession] = {}
        self._is_closed = False
        _raise_file_limit()

    def _session(self) -> aiohttp.ClientSession:
        """The session of the running loop.

        Raises:
            ServerUnreachableError: the connections are closed.
        """
        if self._is_closed:
            raise ServerUnreachableError("the client is closed; make another one")
        loop = asyncio.get_running_loop()
        key = os.getpid(), loop
        if key not in self._sessions:
            self._sessions[key] = session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            if is_io_thread():
                weakref.finalize(self, _close, session, loop, key[0])
        return self._sessions[key]

    async def aclose(self) -> None:
        """Close the connections of the running loop; later requests are refused."""
        self._is_closed = True
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close the connections of the running loop; later requests open others."""
        session = self._sessions.pop((os.getpid(), asyncio.get_running_loop()), None)
        if session is not None:
            await session.close()

    async def exchange(
        self,
        method: str,
        url: str,
        data: bytes | None = None,
        note_bytes: Callable[[], None] = lambda: None,
        pass_on: Callable[[object], None] = lambda event: None,
    ) -> Reply:
        """Send a request and wait for its answer.

        Args:
            method: of HTTP.
            url: with the path.
            data: the body.
            note_bytes: called whenever bytes of the body of an answer arrive that is no error.
                The headers of a stream come while its request is in the server's queue.
            pass_on: receives the decoded events of a stream before the last.

        Raises:
            aiohttp.ClientError, OSError: the connection failed or broke off.
            ShapeError: an event has another shape than SGLang's.
        """
        async with self._session().request(
            method, url, data=data, headers=self._headers
        ) as response:
            note = note_bytes if response.status == HTTPStatus.OK else lambda: None
            pieces = _noting(response.content, note)
            if response.content_type != "text/event-stream":
                return Reply(response.status, b"".join([piece async for piece in pieces]))
            return await _last_event(pieces, pass_on)


async def _noting(
    stream: aiohttp.StreamReader, note_bytes: Callable[[], None]
) -> AsyncIterator[bytes]:
    async for piece in stream.iter_any():
        note_bytes()
        yield piece


async def _last_event(pieces: AsyncIterator[bytes], pass_on: Callable[[object], None]) -> Reply:
    """The event that ends a stream; the events before it are passed on."""
    async for data in _events(pieces):
        try:
            event = orjson.loads(data)
        except json.JSONDecodeError as error:
            raise ShapeError(f"an event is no JSON ({error})") from error
        status = event_status(event)
        if status is not None:
            return Reply(status, data)
        pass_on(event)
    raise aiohttp.ClientPayloadError("the stream ended before its answer did")


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of a stream's events, of any length, up to the [DONE] event."""
    buffer = b""
    async for piece in pieces:
        *events, buffer = (buffer + piece).split(_EVENT_END)
        for event in events:
            if event == _DONE:
                return
            yield event.removeprefix(_EVENT_START)


def _close(session: aiohttp.ClientSession, loop: _Loop, process: int) -> None:
    """Close a session of the thread of the connections."""
    if process != os.getpid() or loop is not io_loop():
        return
    closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
    if not is_io_thread():
        with contextlib.suppress(TimeoutError):
            closing.result(CLOSE_TIMEOUT)


def _raise_file_limit() -> None:
    """Allow a connection per running sequence; the limit of many systems is 1024 files."""
    try:
        import resource
    except ImportError:  # not on Unix
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
