"""A worker process: answers calls received over a socket until the other end is closed.

Only `evals.grading.workers.pool` starts it.
"""

from __future__ import annotations

import importlib
import resource
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

__all__ = ["serve"]

SPARE_SECONDS = 1.0
"""A worker ends itself this long after a call's limit, in case its parent is dead."""


def serve(descriptor: int, memory_bytes: int, preload: Sequence[str]) -> None:
    """Answer every `(function, arguments, limit)` with `(failure, result)`.

    The first message is None once it is ready, or else the reason why it is not, and it ends.

    Args:
        descriptor: an open, connected socket.
        memory_bytes: address space; a call that needs more raises MemoryError.
        preload: names of modules to import.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The default handler ends the process even during a long C call, in which neither a Python
    # handler nor another thread would run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    connection = Connection(descriptor)
    try:
        problem = _load(preload)
        connection.send(problem)
        while problem is None:
            _answer(connection)
    except (EOFError, ConnectionError):
        pass  # the pool is closed, or its process is gone


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _load(modules: Sequence[str]) -> str | None:
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _answer(connection: Connection) -> None:
    failure: str | None = None
    result: object = None
    try:
        function, arguments, limit = connection.recv()
        signal.setitimer(signal.ITIMER_REAL, limit + SPARE_SECONDS)
        result = function(*arguments)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:
        # Not its text: an error may contain an expression that takes forever to print.
        failure = type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    connection.send((failure, result))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
