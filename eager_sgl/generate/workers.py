"""Threads in which schedules call functions of the user's, which must not block the loop.

A function may itself run a search, which calls functions in turn. These run in other threads than
it does: a pool per depth, so that no function waits for a thread that waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eager_sgl.errors import PlugInError

__all__ = ["in_worker"]

_T = TypeVar("_T")

_NUM_WORKERS = 8


_depth = contextvars.ContextVar("depth", default=0)
"""Number of functions of the user's within which the task runs."""


@functools.cache
def _pool(process: int, depth: int) -> ThreadPoolExecutor:
    """The workers of a process; a forked one has other workers."""
    return ThreadPoolExecutor(_NUM_WORKERS, thread_name_prefix="eager_sgl.rules")


async def in_worker(function: Callable[[], _T]) -> _T:
    """Call a function in a worker thread; a cancellation waits for its end.

    Raises:
        PlugInError: the function has raised `SystemExit` or the like, which would end the loop.
    """
    context, pool = contextvars.copy_context(), _pool(os.getpid(), _depth.get())
    guarded = functools.partial(context.run, _guarded, function)
    future = asyncio.get_running_loop().run_in_executor(pool, guarded)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await future
        raise


def _guarded(function: Callable[[], _T]) -> _T:
    _depth.set(_depth.get() + 1)
    try:
        return function()
    except Exception:
        raise
    except BaseException as error:
        raise PlugInError(f"a function of the user's raised {type(error).__name__}") from error
