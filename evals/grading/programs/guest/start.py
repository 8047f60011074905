"""First code in the sandbox: takes on the limits, gives up root, then plays its part."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

__all__ = ["main"]


def main(settings: str) -> None:
    """Run the role of `settings`: JSON with `role`, `limits`, `uid`, `paths`, `channels`."""
    given = json.loads(settings)
    _take_limits(given["limits"])
    if given["uid"] is not None:
        os.setgroups([])
        os.setgid(given["uid"])
        os.setuid(given["uid"])
    sys.path += given["paths"]
    sys.set_int_max_str_digits(0)  # some tests hold, and compare, longer integers
    _play(given["role"], *given["channels"])


def _take_limits(limits: dict[str, Any]) -> None:
    values = {
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_NPROC: limits["num_processes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["num_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, value in values.items():
        resource.setrlimit(name, (value, value))
    # At the soft limit comes a signal that says why; at the hard one the kernel kills.
    cpu_seconds = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def _play(role: str, *channels: int) -> None:
    if role == "candidate":
        from evals.grading.programs.guest.candidate import serve

        serve(*channels)
    elif role == "judge":
        from evals.grading.programs.guest.judge import judge

        with open(0, encoding="utf-8") as job:
            judge(json.load(job), *channels)
    else:
        with open(0, encoding="utf-8") as program:
            source = program.read()
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
