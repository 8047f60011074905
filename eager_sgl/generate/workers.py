"""Threads in which schedules call functions of the user's, which must not block the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_worker"]

_T = TypeVar("_T")

_NUM_WORKERS = 8


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The workers of a process; a forked one has workers of its own."""
    return ThreadPoolExecutor(_NUM_WORKERS, thread_name_prefix="eager_sgl.rules")


async def in_worker(function: Callable[[], _T]) -> _T:
    """Call a function in a worker thread; a cancellation waits for its end."""
    future = asyncio.get_running_loop().run_in_executor(_pool(os.getpid()), function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await future
        raise
