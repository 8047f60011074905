"""A pool of worker processes for calls that may hang, crash or eat memory.

Not pebble's or the standard library's pool: their workers share one pipe and its locks. In pebble
5.2.3 one killed while idle breaks the whole pool, one that ends while it starts leaves its task
pending for ever, and in `concurrent.futures` there is no killing at all. Both also import the
caller's main module in every worker. Here each worker has a socket of its own, so that nothing
one of them does is felt by another.
"""

from __future__ import annotations

import atexit
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["CallFailedError", "CallTimeoutError", "WorkerError", "WorkerPool", "shared_pool"]

START_SECONDS = 120.0
MEMORY_BYTES = 2 << 30
MAX_WORKERS = 8


class WorkerError(Exception):
    """A call has no result."""


class CallTimeoutError(WorkerError):
    """The call ran past its limit; its worker was killed."""


class CallFailedError(WorkerError):
    """The function raised an exception, or its worker died."""


class WorkerPool:
    """Calls functions in worker processes; any number of threads may call at once.

    A worker is started when it is first needed, used again, and replaced when it was killed or
    died. All of them end with this process, whatever ends it: at once where they are idle, else
    at the latest `worker.SPARE_SECONDS` after their call's limit. Linux only.

    Args:
        num_workers: the most there are at a time; by default one per processor, at most 8.
        memory_bytes: of address space of each.
        preload: names of modules that a worker imports while it starts.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
        preload: tuple[str, ...] = (),
    ) -> None:
        count = min(os.cpu_count() or 1, MAX_WORKERS) if num_workers is None else num_workers
        if count < 1:
            raise ValueError(f"num_workers is {count}; at least one is needed")
        self._arguments = [str(memory_bytes), *preload]
        self._owner = os.getpid()
        # Ready ones come out first, then those that load, then None: one yet to be started.
        self._free: queue.PriorityQueue[tuple[int, int, _Worker | None]] = queue.PriorityQueue()
        self._turns = itertools.count()
        for _ in range(count):
            self._release(None)
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    def call(self, function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
        """`function(*arguments)` in a worker.

        Waiting for a free worker, and its start, do not count against the limit.

        Args:
            function: a module's function; with its arguments and result it must be picklable.
            limit: seconds.

        Raises:
            CallTimeoutError: the limit is over.
            CallFailedError: the function raised, or its worker died.
        """
        if os.getpid() != self._owner:
            raise RuntimeError("a forked process cannot use its parent's workers; make a new pool")
        *_, worker = self._free.get()
        try:
            if worker is None or not worker.is_alive:
                worker = self._replace(worker)
            if worker is None:
                raise CallFailedError("the workers are closed")
            try:
                return worker.call(function, arguments, limit)
            except CallFailedError:
                raise
            except BaseException:
                # An interrupt too: what this call would still answer is not the next one's.
                worker = self._replace(worker)
                raise
        except (EOFError, OSError) as error:
            raise CallFailedError("the worker died") from error
        finally:
            self._release(worker)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that were started and not ended by us."""
        with self._lock:
            return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """Kill every worker; calls that run or come later fail. May be called again."""
        with self._lock:
            self._closed = True
            # A worker's connection stays with the thread that uses it, which sees its end.
            if os.getpid() == self._owner:
                for worker in self._workers:
                    worker.kill()
            self._workers.clear()
        atexit.unregister(self.close)

    def _release(self, worker: _Worker | None) -> None:
        rank = 2 if worker is None else 0 if worker.is_ready else 1
        self._free.put((rank, next(self._turns), worker))

    def _replace(self, worker: _Worker | None) -> _Worker | None:
        """A worker that starts, for one that is no use any more; None once the pool is closed."""
        if worker is not None:
            worker.kill()
            worker.disconnect()
        with self._lock:
            self._workers -= {worker}
            if self._closed:
                return None
            started = _Worker(self._arguments)
            self._workers.add(started)
        return started


class _Worker:
    """One process and our end of its socket; used by one thread at a time."""

    def __init__(self, arguments: list[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "evals.grading.workers.worker"]
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        self.is_ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], limit: float) -> Any:
        """As the pool's; raises EOFError or OSError where the process is dead."""
        if not self.is_ready:
            self._await_start()
        self._connection.send((function, arguments, limit))
        if not self._connection.poll(limit):
            raise CallTimeoutError(f"not done after {limit:g} s")
        try:
            failure, result = self._connection.recv()
        except EOFError:
            if self._process.wait() == -signal.SIGALRM:  # its own clock was faster than ours
                raise CallTimeoutError(f"not done after {limit:g} s") from None
            raise
        if failure is not None:
            raise CallFailedError(failure)
        return result

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def disconnect(self) -> None:
        self._connection.close()

    def _await_start(self) -> None:
        if not self._connection.poll(START_SECONDS):
            raise EOFError(f"the worker did not start within {START_SECONDS:g} s")
        problem = self._connection.recv()
        if problem is not None:
            raise CallFailedError(problem)
        self.is_ready = True


_shared: dict[tuple[int, tuple[str, ...]], WorkerPool] = {}
_shared_lock = threading.Lock()


def shared_pool(*preload: str) -> WorkerPool:
    """This process's one pool with these modules, made at its first use.

    A forked process gets its own.
    """
    key = os.getpid(), preload
    with _shared_lock:
        if key not in _shared:
            _shared[key] = WorkerPool(preload=preload)
        return _shared[key]
