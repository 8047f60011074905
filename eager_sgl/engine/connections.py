"""The HTTP connections of a process, served by one thread.

A waiting request costs a socket and a few objects. A forked process starts a new thread and new
connections at its first request: threads do not survive a fork, and two processes that read from
the same connection would take each other's answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import aiohttp
import orjson

from eager_sgl.engine.limits import CLOSE_TIMEOUT, CONNECT_TIMEOUT
from eager_sgl.engine.protocol import event_status
from eager_sgl.engine.shapes import ShapeError

__all__ = ["Connections", "Reply"]

_T = TypeVar("_T")

_EVENT_START, _EVENT_END, _DONE = b"data: ", b"\n\n", b"data: [DONE]"
_IO_THREAD = "eager_sgl.io"
_running: set[asyncio.Task[None]] = set()


class Reply(NamedTuple):
    """An HTTP status and a body; of a stream those of its last event."""

    status: int
    body: bytes


class Connections:
    """Kept-alive connections, usable from any thread and in forked processes.

    Args:
        headers: sent with every request.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        # By process: a child leaves its parent's session to the parent, which closes it.
        self._sessions: dict[int, aiohttp.ClientSession] = {}
        _raise_file_limit()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the thread of the connections, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, io_loop()).result()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine in the thread of the connections."""
        loop = io_loop()
        loop.call_soon_threadsafe(_spawn, loop, work)

    def _session(self) -> aiohttp.ClientSession:
        """The session of this process; for the thread of the connections only."""
        process = os.getpid()
        if process not in self._sessions:
            self._sessions[process] = session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            weakref.finalize(self, _close, session, asyncio.get_running_loop(), process)
        return self._sessions[process]

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
            note_bytes: called whenever bytes arrive.
            pass_on: receives the decoded events of a stream before the last.

        Raises:
            aiohttp.ClientError, OSError: the connection failed or broke off.
            ShapeError: an event has another shape than SGLang's.
        """
        async with self._session().request(
            method, url, data=data, headers=self._headers
        ) as response:
            note_bytes()
            pieces = _noting(response.content, note_bytes)
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


# The thread


_starting = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def io_loop() -> asyncio.AbstractEventLoop:
    """The event loop of the thread that serves all connections of this process."""
    with _starting:
        if not _loops:
            _loops.append(asyncio.new_event_loop())
            threading.Thread(target=_loops[0].run_forever, name=_IO_THREAD, daemon=True).start()
        return _loops[0]


def _forget_the_thread() -> None:
    """A forked process inherits the loop, and perhaps a held lock, but no thread."""
    global _starting, _loops
    _starting, _loops = threading.Lock(), []


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_the_thread)


def _spawn(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    task = loop.create_task(work)
    # The loop itself holds its tasks weakly.
    _running.add(task)
    task.add_done_callback(_running.discard)


def _close(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop, process: int) -> None:
    if process != os.getpid():
        return
    closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
    if threading.current_thread().name != _IO_THREAD:
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
