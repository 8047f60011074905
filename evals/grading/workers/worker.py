"""One worker process: answers calls that come over a socket, until its other end is closed.

Started by `evals.grading.workers.pool`, never by hand.
"""

from __future__ import annotations

import importlib
import resource
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

__all__ = ["SPARE_SECONDS", "serve"]

SPARE_SECONDS = 1.0
"""A worker ends itself this long after a call's limit, should nobody be left to kill it."""


def serve(descriptor: int, memory_bytes: int, preload: Sequence[str]) -> None:
    """Answer each `(function, arguments, limit)` with `(failure, result)`.

    First it sends None once it is ready, or says why it cannot be, and ends.

    Args:
        descriptor: an open, connected socket.
        memory_bytes: of address space; what needs more raises MemoryError.
        preload: names of modules to import.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The system's default ends the process even in the midst of one long C call, where no
    # Python handler and no thread of ours would run.
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
        # Not its text: an error may carry an expression that takes forever to print.
        failure = type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    connection.send((failure, result))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
