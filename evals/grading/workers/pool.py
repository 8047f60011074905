"""A pool of worker processes for calls that may hang, crash or exhaust memory.

It replaces pebble's and the standard library's pools, whose workers share a pipe and its locks. In
pebble 5.2.3 killing an idle worker breaks the whole pool, and a worker that ends while it starts
leaves its task pending for ever; `concurrent.futures` cannot kill a worker. Both also import the
caller's main module in every worker. Here every worker has a separate socket, so that no worker
affects another.
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

    A worker is started when it is first needed, reused, and replaced after it was killed or died.
    All workers end with this process, whatever ends it: idle workers at once, busy workers at the
    latest `worker.SPARE_SECONDS` after their call's limit. Linux only.

    Args:
        num_workers: at most; by default the number of processors, up to 8.
        memory_bytes: address space per worker.
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
            raise ValueError(f"num_workers is {count}; it must be at least 1")
        self._arguments = [str(memory_bytes), *preload]
        self._owner = os.getpid()
        # In this order: ready workers, workers that still load, None for a worker not yet started.
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
            function: a function of a module; it, its arguments and its result must be picklable.
            limit: seconds.

        Raises:
            CallTimeoutError: the call took longer than the limit.
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
                # An interrupt too: the next call must not receive this call's late answer.
                worker = self._replace(worker)
                raise
        except (EOFError, OSError) as error:
            raise CallFailedError("the worker died") from error
        finally:
            self._release(worker)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that were started and not yet replaced or closed."""
        with self._lock:
            return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """Kill every worker; running and later calls fail. May be called again."""
        with self._lock:
            self._closed = True
            # A worker's connection is closed by the thread that uses it, which notices the end.
            if os.getpid() == self._owner:
                for worker in self._workers:
                    worker.kill()
            self._workers.clear()
        atexit.unregister(self.close)

    def _release(self, worker: _Worker | None) -> None:
        rank = 2 if worker is None else 0 if worker.is_ready else 1
        self._free.put((rank, next(self._turns), worker))

    def _replace(self, worker: _Worker | None) -> _Worker | None:
        """A new worker in place of a dead or unused one; None once the pool is closed."""
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
    """A process and this end of its socket; used by a single thread at a time."""

    def __init__(self, arguments: list[str]) -> None:
        pool_end, worker_end = socket.socketpair()
        with worker_end:
            command = [sys.executable, "-P", "-m", "evals.grading.workers.worker"]
            self._process = subprocess.Popen(
                [*command, str(worker_end.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                pass_fds=[worker_end.fileno()],
                start_new_session=True,
            )
        self._connection = Connection(pool_end.detach())
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
            if self._process.wait() == -signal.SIGALRM:  # its clock was faster
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
    """The pool of this process that preloads these modules, created at its first use.

    A forked process gets a new pool.
    """
    key = os.getpid(), preload
    with _shared_lock:
        if key not in _shared:
            _shared[key] = WorkerPool(preload=preload)
        return _shared[key]
