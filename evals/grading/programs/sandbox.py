"""A Python program in isolation: bubblewrap's namespaces, a filter of system calls, hard limits.

The program sees the interpreter, its standard library, numpy and the system's shared libraries, all
read-only, and an empty scratch folder in memory. It has no network, sees no other process and
cannot become root. Killing it kills every process that it started.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO

from evals.grading.programs.bubblewrap import command
from evals.grading.programs.seccomp import call_filter

__all__ = [
    "DEFAULT_LIMITS",
    "Limits",
    "Outcome",
    "Output",
    "Sandbox",
    "pump",
    "run",
]

# As root every program gets a different user, so that the kernel counts its processes separately;
# from the range that systemd reserves for users without an account.
USERS = range(61184, 65520)


@dataclass(frozen=True)
class Limits:
    """Limits of a program.

    Attributes:
        cpu_seconds: CPU time per process.
        wall_seconds: time until the program and its processes are killed.
        memory_bytes: address space per process.
        num_processes: processes and threads at once, those of the sandbox included.
        file_bytes: size of a file that it writes.
        scratch_bytes: total size of its scratch folder.
        num_files: files open at once.
        output_bytes: printed bytes, beyond which it is killed.
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
    """The end of a program: its exit status (128 + signal if killed) and what it printed.

    `stopped` is the reason for which it was killed; None where it ended by itself.
    """

    status: int
    output: bytes
    stopped: str | None = None


class Sandbox:
    """A program that runs in isolation; leaving the context kills all of it.

    Args:
        role: a role of `evals.grading.programs.guest.start`.
        limits: its limits.
        channels: file descriptors that it inherits, as the arguments of its role.
        text: its standard input.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, role: str, limits: Limits, channels: Sequence[int] = (), text: str = ""
    ) -> None:
        uid = secrets.choice(USERS) if os.geteuid() == 0 else None
        settings = {"role": role, "limits": asdict(limits), "uid": uid, "channels": channels}
        with _file(call_filter()) as calls, _file(text.encode()) as stdin:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                command(settings, limits.scratch_bytes, calls),
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

    def wait(self, seconds: float) -> int:
        """Wait for its end, kill it after this time; returns its exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.kill()

    def kill(self) -> int:
        """Kill it and every process that it started; returns its exit status."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def run(program: str, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Run Python source as a program and wait for its end.

    Raises:
        OSError: the sandbox cannot be started.
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
    """Keeps the bytes that arrive, up to a limit. Raises OverflowError for more."""

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
    """Pass the bytes that arrive on a file descriptor to its sink.

    Returns at the end of file of `until`, or of all descriptors if None. Raises TimeoutError at the
    deadline (of time.monotonic) and whatever a sink raises.
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


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[int]:
    """A file in memory with this content, which a child process can inherit."""
    with open(os.memfd_create("sandbox"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()
