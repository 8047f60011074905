"""One Python program in isolation: bubblewrap's namespaces, a filter of calls, hard limits.

It sees the interpreter, its standard library, numpy and the system's shared libraries, all
read-only, and an empty scratch folder in memory. It has no network, no other process in sight
and no way back to root. Killing it kills whatever it started.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO

from evals.grading.programs import bubblewrap, seccomp

__all__ = [
    "DEFAULT_LIMITS",
    "IsolationError",
    "Limits",
    "Outcome",
    "Output",
    "Sandbox",
    "pump",
    "require_isolation",
    "run",
]

# As root every program gets a user of its own, so that the kernel counts its processes apart.
# From the range that systemd keeps for users without an account.
USERS = range(61184, 65520)
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


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        cpu_seconds: CPU time of each of its processes.
        wall_seconds: time until it is killed whole.
        memory_bytes: address space of each of its processes.
        num_processes: processes and threads at once, the sandbox's own included.
        file_bytes: size of one file that it writes.
        scratch_bytes: all that it keeps in its scratch folder.
        num_files: files open at once.
        output_bytes: what it may print; more, and it is killed.
    """

    cpu_seconds: int = 60
    wall_seconds: float = 120.0
    memory_bytes: int = 2 << 30
    num_processes: int = 8
    file_bytes: int = 16 << 20
    scratch_bytes: int = 64 << 20
    num_files: int = 64
    output_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}; expected more than 0")


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit status (128 + signal if killed) and what it printed.

    `stopped` says why it was ended from outside; None where it ended by itself.
    """

    status: int
    output: bytes
    stopped: str | None = None


class Sandbox:
    """A program that runs in isolation; leaving the context kills all of it.

    Args:
        role: a part that `evals.grading.programs.guest.start` knows.
        limits: what it may use.
        channels: file descriptors that it inherits; its arguments.
        text: what it reads from its standard input.

    Raises OSError where it cannot be started.
    """

    def __init__(
        self, role: str, limits: Limits, channels: Sequence[int] = (), text: str = ""
    ) -> None:
        uid = secrets.choice(USERS) if os.geteuid() == 0 else None
        settings = {"role": role, "limits": asdict(limits), "uid": uid, "channels": channels}
        with _file(seccomp.program()) as calls, _file(text.encode()) as stdin:
            command = bubblewrap.command(settings, limits.scratch_bytes, calls)
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                env={},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[*channels, calls],
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self.output: IO[bytes] = self.process.stdout

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.output.close()

    def ended(self, seconds: float) -> int:
        """Its exit status once it has ended by itself, or is killed after so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.kill()

    def kill(self) -> int:
        """End it and everything it started; its exit status."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def run(program: str, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Run Python source as a program of its own and wait for its end.

    Raises OSError where the sandbox cannot be started.
    """
    output = Output(limits.output_bytes)
    with Sandbox("program", limits, text=program) as sandbox:
        stopped = None
        deadline = time.monotonic() + limits.wall_seconds
        try:
            pump({sandbox.output.fileno(): output}, deadline)
            sandbox.process.wait(max(deadline - time.monotonic(), 0))
        except (TimeoutError, subprocess.TimeoutExpired):
            stopped = "time limit"
        except OverflowError:
            stopped = "output limit"
        return Outcome(sandbox.kill(), bytes(output.kept), stopped)


class Output:
    """Keeps what arrives up to a number of bytes. Raises OverflowError for more."""

    def __init__(self, num_bytes: int, is_kept: bool = True) -> None:
        self.kept = bytearray()
        self._left = num_bytes
        self._is_kept = is_kept

    def __call__(self, part: bytes) -> None:
        if self._is_kept:
            self.kept += part[: self._left]
        self._left -= len(part)
        if self._left < 0:
            raise OverflowError("more output than allowed")

    @property
    def is_over(self) -> bool:
        """Whether more arrived than allowed."""
        return self._left < 0


def pump(
    sinks: Mapping[int, Callable[[bytes], None]], deadline: float, until: int | None = None
) -> None:
    """Feed what arrives on each file descriptor to its sink.

    Returns when `until` is at its end, or all are if None. Raises TimeoutError at the deadline
    (of time.monotonic) and whatever a sink raises.
    """
    with selectors.DefaultSelector() as selector:
        for source in sinks:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map() if until is None else until in selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                if part := os.read(key.fd, 1 << 16):
                    sinks[key.fd](part)
                else:
                    selector.unregister(key.fd)


def require_isolation() -> None:
    """Try a trivial program in the sandbox, once.

    Raises IsolationError, which says what is missing and what to do, where that fails.
    """
    if problem := _problem():
        closed = bubblewrap.closed_path() if os.geteuid() == 0 else None
        remedy = f"{closed}: {CLOSED_REMEDY.format(path=closed)}" if closed else REMEDY
        raise IsolationError(f"code cannot be run in isolation: {problem}; {remedy}")


@functools.cache
def _problem() -> str | None:
    if sys.platform != "linux" or os.uname().machine not in seccomp.ARCHITECTURES:
        names = " or ".join(seccomp.ARCHITECTURES)
        return f"it needs Linux on {names}, this is {sys.platform} on {os.uname().machine}"
    if shutil.which("bwrap") is None:
        return "the program bwrap was not found"
    try:
        outcome = run("import ctypes, numpy; print('isolated')", Limits(wall_seconds=60))
    except OSError as error:
        return f"bwrap did not start: {error}"
    if outcome.output.strip() == b"isolated":
        return None
    said = outcome.output.decode(errors="replace").strip().splitlines()
    why = outcome.stopped or (said[-1] if said else f"exit status {outcome.status}")
    return f"a trial program failed ({why})"


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[int]:
    """A file in memory to read from, which a child may inherit."""
    with open(os.memfd_create("sandbox"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()
