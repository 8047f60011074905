"""How a run ends: its exit codes, and SIGTERM as an interruption."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

__all__ = [
    "BROKEN_OFF",
    "FAILED",
    "INTERRUPTED",
    "REFUSED",
    "TERMINATED",
    "Terminated",
    "interruption",
    "terminable",
]

BROKEN_OFF, REFUSED, FAILED = 1, 2, 3
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


def interruption(error: KeyboardInterrupt) -> tuple[str, int]:
    """A word for what an interruption was, and the exit code."""
    if isinstance(error, Terminated):
        return "terminated", TERMINATED
    return "interrupted", INTERRUPTED


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """In the main thread: SIGTERM ends what runs inside as ctrl-C does."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
