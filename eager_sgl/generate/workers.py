"""Threads in which schedules call functions of the user's, which must not block the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eager_sgl.errors import PlugInError

__all__ = ["in_worker"]

_T = TypeVar("_T")

_NUM_WORKERS = 8


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The workers of a process; a forked one has workers of its own."""
    return ThreadPoolExecutor(_NUM_WORKERS, thread_name_prefix="eager_sgl.rules")


async def in_worker(function: Callable[[], _T]) -> _T:
    """Call a function in a worker thread; a cancellation waits for its end.

    Raises:
        PlugInError: the function has raised `SystemExit` or the like, which would end the loop.
    """
    guarded = functools.partial(_guarded, function)
    future = asyncio.get_running_loop().run_in_executor(_pool(os.getpid()), guarded)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await future
        raise


def _guarded(function: Callable[[], _T]) -> _T:
    try:
        return function()
    except Exception:
        raise
    except BaseException as error:
        raise PlugInError(f"a function of the user's raised {type(error).__name__}") from error
