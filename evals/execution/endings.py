"""How a run ends: its exit codes, its last sentence, and SIGTERM as an interruption."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

from evals.records.folder import RunFolder

__all__ = [
    "BROKEN_OFF",
    "FAILED",
    "REFUSED",
    "fail",
    "failed_note",
    "interruption",
    "kept_note",
    "terminable",
]

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
