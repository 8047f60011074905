"""The event loop of the synchronous faces: a thread that serves all their requests.

A forked process starts a new thread at its first request: threads do not survive a fork.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

__all__ = ["GC_THRESHOLD", "io_loop", "is_io_thread", "leave", "run", "spawn", "together"]

_T = TypeVar("_T")

_IO_THREAD = "eager_sgl.io"
GC_THRESHOLD = 500_000
"""Of `gc.set_threshold`, for a process that is to have thousands of prompts in flight: each has
about two hundred objects (tasks, coroutines, a connection), through which the collector walks so
often otherwise that it costs a fifth to two fifths of the client's time at 2,048 prompts."""

_running: set[asyncio.Task[Any]] = set()
_starting = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def io_loop() -> asyncio.AbstractEventLoop:
    """The event loop of the thread that serves the synchronous faces of this process."""
    with _starting:
        if not _loops:
            _loops.append(asyncio.new_event_loop())
            threading.Thread(target=_loops[0].run_forever, name=_IO_THREAD, daemon=True).start()
        return _loops[0]


def is_io_thread() -> bool:
    """Whether the caller runs in the thread of `io_loop`, which must not block."""
    return threading.current_thread().name == _IO_THREAD


def _forget_the_thread() -> None:
    """A forked process inherits the loop, and perhaps a held lock, but no thread."""
    global _starting
    _starting = threading.Lock()
    _loops.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_the_thread)


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks, whose first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def spawn(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Start a task of the running loop that lives until it ends; loops hold tasks weakly."""
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def leave(task: asyncio.Future[Any]) -> None:
    """Await a task no longer: asyncio would print its error as one that nobody has seen.

    Also a callback for the end of a task, whose error is then seen whether or not one awaits it.
    """
    if not task.done():
        task.add_done_callback(leave)
    elif not task.cancelled():
        task.exception()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in the thread of `io_loop`, and wait for its result.

    It runs in a copy of the caller's context variables.

    Raises:
        KeyboardInterrupt: Ctrl-C has cancelled the coroutine, whose error is the cause. A second
            Ctrl-C does not wait for its clean-up.
    """
    if is_io_thread():
        raise RuntimeError(
            "a synchronous client was called from the thread of its connections, which cannot wait "
            "for itself; call it from another thread"
        )
    loop, outcome = io_loop(), Future[_T]()
    tasks: list[asyncio.Task[None]] = []
    context = contextvars.copy_context()
    loop.call_soon_threadsafe(lambda: tasks.append(spawn(_settle(work, outcome))), context=context)
    try:
        return outcome.result()
    except KeyboardInterrupt as interrupt:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        raise interrupt from outcome.exception()


async def _settle(work: Coroutine[Any, Any, _T], outcome: Future[_T]) -> None:
    try:
        outcome.set_result(await work)
    except BaseException as error:
        outcome.set_exception(error)
