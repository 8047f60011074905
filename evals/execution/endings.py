"""How a run ends: its exit codes, its last sentence, and its interruption by Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from evals.records.folder import RunFolder

__all__ = [
    "BROKEN_OFF",
    "FAILED",
    "REFUSED",
    "fail",
    "failed_note",
    "interruption",
    "kept_note",
    "run_interruptible",
    "terminable",
]

_T = TypeVar("_T")

BROKEN_OFF, REFUSED, FAILED = 1, 2, 3
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


def fail(message: str, code: int) -> int:
    """Print an error; its exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


def kept_note(folder: RunFolder) -> str:
    """The results of a run that was broken off, as the end of a sentence."""
    number = len(folder.store.records)
    if number == 0:
        return ""
    path = folder.store.path
    return f"; {number} finished results are kept in {path}, the same command continues the run"


def failed_note(number: int, folder: RunFolder) -> str:
    """The results that failed in a run."""
    return f"{number} results failed, see {folder.failures.path}; the same command retries them"


class Terminated(KeyboardInterrupt):
    """The process has received SIGTERM."""


def interruption(error: KeyboardInterrupt) -> tuple[str, int]:
    """The name of an interruption and its exit code."""
    if isinstance(error, Terminated):
        return "terminated", TERMINATED
    return "interrupted", INTERRUPTED


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """In the main thread: SIGTERM ends the context as ctrl-C does."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_interruptible(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in an event loop of the main thread.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM has cancelled the coroutine, which has ended. A second
            one does not wait for that.
    """
    return asyncio.run(_cancelled_by_sigterm(work))


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, _T]) -> _T:
    """Ctrl-C needs nothing of the kind: `asyncio.run` cancels its coroutine."""
    loop, task, is_terminated = asyncio.get_running_loop(), asyncio.current_task(), False
    assert task is not None, "a coroutine runs in a task"

    def cancel(number: int, frame: object) -> None:
        nonlocal is_terminated
        if is_terminated:
            raise Terminated
        is_terminated = True
        loop.call_soon_threadsafe(task.cancel)

    previous = signal.signal(signal.SIGTERM, cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if is_terminated:
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
