"""The lock that gives a run's folder to one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from evals.records.files import StoreError, reported

__all__ = ["locked"]

LOCK = ".lock"
# A child that a killed run was just starting holds the lock until it becomes another program.
PATIENCE_SECONDS = 2.0


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, created if need be; the system frees it when this process dies.

    Raises:
        StoreError: another process holds it, or it cannot be created.
    """
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with reported(folder):
            _lock(lock, folder)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, folder: Path) -> None:
    busy = StoreError(f"another run is at work in {folder}; wait for it or give --output-dir")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            raise busy
        time.sleep(0.05)
    # Between the two, the other run may have moved the folder away, our lock in it.
    if not os.path.samestat(os.fstat(lock), (folder / LOCK).stat()):
        raise busy


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
