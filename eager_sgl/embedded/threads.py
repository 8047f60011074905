"""The threads and the memory that compute on a machine without an accelerator.

Two threads that wait for each other at every operation of a forward pass spin while they wait, and
on a busy machine one spins while the other has no core. For a model of 0.5 B parameters on 2 cores
beside other work, threads that sleep while they wait decode ten times as fast as threads that spin.

Logits of 64 sequences and 152,000 tokens are 39 MB. glibc returns memory of that size to the system
after each use, and the next use pays for every page: a draw from such logits takes 167 ms, and 46
where the memory is kept.

The keys and values of a sequence lie all over the cache, hardly two of them on the same page of
memory. On pages of 2 MB the bundled reasoner's attention takes 6 % less time in plain sampling, and
11 % less in searches, whose contexts are longer. A model of 0.5 B parameters gains nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

__all__ = ["compute_variables", "is_small", "num_cores"]

SMALL_MODEL_BYTES = 100_000_000
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
}
HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
"""PyTorch asks for them where the system leaves the choice to programs."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def compute_variables(model_folder: Path) -> Mapping[str, str]:
    """Environment variables for PyTorch's threads and pages, and for glibc's `malloc`.

    A small model computes in a single thread: on a busy machine 73 token/s with two threads, and
    1,150 with one.
    """
    if is_small(model_folder):
        return {"OMP_NUM_THREADS": "1"} | HUGE_PAGES
    threads = {"OMP_NUM_THREADS": str(num_cores()), "OMP_WAIT_POLICY": "passive"}
    return threads | KEPT_MEMORY


def is_small(model_folder: Path) -> bool:
    """Whether a model folder's weight files are below `SMALL_MODEL_BYTES`; never for a hub id."""
    files = [*model_folder.glob("*.safetensors"), *model_folder.glob("*.bin")]
    return bool(files) and sum(file.stat().st_size for file in files) < SMALL_MODEL_BYTES


def num_cores() -> int:
    """The cores that this process may use, at least 1: hardware threads of a core count once."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(allowed, physical, _quota()))


def _quota() -> int:
    """Whole cores that the control group may use; many without a limit."""
    try:
        limit, period = QUOTA.read_text().split()
        return max(1, int(limit) // int(period))
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return os.cpu_count() or 1
