"""Whether this machine can run programs in isolation, and how to make it able to."""

from __future__ import annotations

import functools
import os
import shutil
import sys

from evals.grading.programs.bubblewrap import closed_path
from evals.grading.programs.sandbox import Limits, run
from evals.grading.programs.seccomp import ARCHITECTURES

__all__ = ["IsolationError", "require_isolation"]

REMEDY = (
    "install bubblewrap 0.8 or newer (apt install bubblewrap) and, unless you are root, "
    "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0; start a container with --privileged)"
)
CLOSED_REMEDY = (
    "every user must be able to read it (chmod -R o+rX {path}), or run with another interpreter, "
    "such as the system's"
)


class IsolationError(RuntimeError):
    """Programs cannot be isolated on this machine."""


def require_isolation() -> None:
    """Run a trivial program in the sandbox, the first time only.

    Raises:
        IsolationError: that fails; the message names what is missing and the remedy.
    """
    if problem := _problem():
        closed = closed_path() if os.geteuid() == 0 else None
        remedy = f"{closed}: {CLOSED_REMEDY.format(path=closed)}" if closed else REMEDY
        raise IsolationError(f"code cannot be run in isolation: {problem}; {remedy}")


@functools.cache
def _problem() -> str | None:
    if sys.platform != "linux" or os.uname().machine not in ARCHITECTURES:
        names = " or ".join(ARCHITECTURES)
        return f"it needs Linux on {names}, this is {sys.platform} on {os.uname().machine}"
    if shutil.which("bwrap") is None:
        return "the program bwrap was not found"
    try:
        outcome = run("import ctypes, numpy; print('isolated')", Limits(wall_seconds=60))
    except OSError as error:
        return f"bwrap did not start: {error}"
    if outcome.output.strip() == b"isolated":
        return None
    lines = outcome.output.decode(errors="replace").strip().splitlines()
    reason = outcome.stopped or (lines[-1] if lines else f"exit status {outcome.status}")
    return f"a trial program failed ({reason})"
