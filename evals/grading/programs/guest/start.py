"""The first code in the sandbox: sets the limits, gives up root, then runs its role."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping

__all__ = ["main"]


def main(settings: str) -> None:
    """Run the role of `settings`: JSON with `role`, `limits`, `uid`, `paths`, `channels`."""
    values = json.loads(settings)
    _set_limits(values["limits"])
    if values["uid"] is not None:
        os.setgroups([])
        os.setgid(values["uid"])
        os.setuid(values["uid"])
    sys.path += values["paths"]
    sys.set_int_max_str_digits(0)  # some tests compare longer integers
    _run(values["role"], *values["channels"])


def _set_limits(limits: Mapping[str, int]) -> None:
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
    # The soft limit sends a signal that gives the reason; at the hard limit the kernel kills.
    cpu_seconds = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def _run(role: str, *channels: int) -> None:
    if role == "candidate":
        from evals.grading.programs.guest.candidate import serve

        serve(*channels)
    elif role == "judge":
        from evals.grading.programs.guest.judge import judge
        from evals.grading.programs.guest.protocol import Job

        with open(0, encoding="utf-8") as file:
            judge(Job(**json.load(file)), *channels)
    else:
        with open(0, encoding="utf-8") as file:
            source = file.read()
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
