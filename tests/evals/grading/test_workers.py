"""Worker processes that hang, crash, exhaust memory, or lose their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from evals.grading.workers.pool import (
    CallFailedError,
    CallTimeoutError,
    WorkerPool,
    shared_pool,
)
from tests.fakes.waiting import wait_until


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(2)
    yield pool
    pool.close()


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_workers_start_when_needed_and_are_reused(pool: WorkerPool) -> None:
    assert pool.pids == []
    pids = {pool.call(os.getpid, limit=10) for _ in range(5)}
    assert pids == set(pool.pids)
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_a_hanging_call_is_killed_even_within_c_code(pool: WorkerPool) -> None:
    pid = pool.call(os.getpid, limit=10)
    with pytest.raises(CallTimeoutError, match=r"not done after 0.3 s"):
        pool.call(pow, 9, 9**9, limit=0.3)
    assert is_gone(pid)
    assert pool.call(os.getpid, limit=10) != pid


def test_calls_from_many_threads(pool: WorkerPool) -> None:
    """They wait for a free worker much longer than their limit, which is no time-out."""
    with ThreadPoolExecutor(16) as threads:
        naps = [threads.submit(pool.call, time.sleep, 0.3, limit=1.7) for _ in range(14)]
        sums = [threads.submit(pool.call, sum, (n, 1), limit=10) for n in range(50)]
        assert [nap.result() for nap in naps] == [None] * 14
        assert [total.result() for total in sums] == [n + 1 for n in range(50)]
    assert len(pool.pids) == 2


@pytest.mark.parametrize(
    ("function", "argument", "failure"),
    [
        (os._exit, 0, "the worker died"),
        (signal.raise_signal, signal.SIGSEGV, "the worker died"),
        (bytes, 3 << 30, "MemoryError"),
        (int, "five", "ValueError"),
    ],
)
def test_a_failing_call_affects_no_other(
    pool: WorkerPool, function: Callable[..., object], argument: object, failure: str
) -> None:
    with pytest.raises(CallFailedError, match=failure):
        pool.call(function, argument, limit=10)
    assert pool.call(abs, -1, limit=10) == 1


def test_a_worker_killed_from_outside_is_replaced(pool: WorkerPool) -> None:
    idle = pool.call(os.getpid, limit=10)
    os.kill(idle, signal.SIGKILL)
    assert wait_until(lambda: is_gone(idle)), "still there"
    assert pool.call(abs, -1, limit=10) == 1

    (busy,) = pool.pids
    threading.Timer(1.0, os.kill, (busy, signal.SIGKILL)).start()
    with pytest.raises(CallFailedError, match="the worker died"):
        pool.call(time.sleep, 30, limit=30)
    assert pool.call(abs, -1, limit=10) == 1


def test_a_keyboard_interrupt_does_not_reach_workers(pool: WorkerPool) -> None:
    pid = pool.call(os.getpid, limit=10)
    os.kill(pid, signal.SIGINT)
    assert pool.call(os.getpid, limit=10) == pid
    assert os.getsid(pid) != os.getsid(0)


def test_an_interrupted_call_leaves_no_answer_to_the_next(pool: WorkerPool) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    pool.call(abs, -1, limit=10)
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            pool.call(time.sleep, 0.5, limit=10)
        time.sleep(0.5)
        assert pool.call(abs, -2, limit=10) == 2
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_closing_kills_idle_and_busy_workers(pool: WorkerPool) -> None:
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(pool.call, time.sleep, 60, limit=60)
        assert wait_until(lambda: len(pool.pids) == 1), "no worker started"
        pool.call(abs, -1, limit=10)
        pids = pool.pids
        pool.close()
        with pytest.raises(CallFailedError):
            busy.result()
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)
    with pytest.raises(CallFailedError, match="the workers are closed"):
        pool.call(abs, -1, limit=10)


def test_a_module_that_cannot_be_loaded_is_named() -> None:
    pool = WorkerPool(1, preload=("evals.no_such_module",))
    with pytest.raises(CallFailedError, match="No module named 'evals.no_such_module'"):
        pool.call(abs, -1, limit=10)
    pool.close()


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_workers is 0; it must be at least 1"):
        WorkerPool(0)


def test_the_shared_pool_is_created_once() -> None:
    assert shared_pool() is shared_pool()


# A script without the guard that multiprocessing needs; its last call never returns from C code.
SCRIPT = """
import os, threading, time
from evals.grading.workers.pool import WorkerPool
pool = WorkerPool(2)
idle, busy = pool.call(os.getpid, limit=10), None
thread = threading.Thread(target=pool.call, args=(pow, 9, 9**9), kwargs={"limit": 1}, daemon=True)
thread.start()
while busy is None:
    pool.call(time.sleep, 0.01, limit=10)
    busy = next((pid for pid in pool.pids if pid != idle), None)
pool.call(os.getpid, limit=10)
print(*pool.pids, flush=True)
"""


@pytest.mark.parametrize("ending", ["time.sleep(60)", ""], ids=["killed", "at its end"])
def test_no_worker_outlives_its_parent(ending: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + ending], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        if ending:
            parent.kill()
    assert len(pids) == 2
    assert wait_until(lambda: all(is_gone(pid) for pid in pids)), f"of {pids} some are left"
