"""Waiting for a condition, in place of a time that a loaded machine may exceed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["until", "wait_until"]


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether a condition holds within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def until(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float = 20.0, pause: float = 0.001
) -> None:
    """Wait in a task until a condition holds.

    Args:
        pause: in seconds, between two looks.

    Raises:
        TimeoutError: it does not within some seconds.
    """
    async with asyncio.timeout(seconds):
        while not await _holds(condition):
            await asyncio.sleep(pause)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    value = condition()
    return value if isinstance(value, bool) else await value
