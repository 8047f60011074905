"""The process of the embedded runtime: SGLang's server, which dies with its owner or its children.

    python -m eager_sgl.embedded.process SCRATCH_FOLDER

The folder holds the server's arguments, since the command line would show its keys to all users of
the machine.

Standard input is a pipe that the owner holds open and never writes to. The pipe closes when the
owner ends, however it dies, and then this process kills its whole group. (A parent-death signal
would also fire when only the launching thread ends, and reaches no grandchild.) The same happens
when a process of SGLang has ended, so that no client waits for an answer: SGLang itself waits a
minute for diagnostics, and accepts connections that it never answers.

SGLang's subprocesses import this module again, so its top level imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from multiprocessing import active_children
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from eager_sgl.embedded.memory import fitted
from eager_sgl.embedded.precision import dtype_of
from eager_sgl.embedded.threads import compute_variables

if TYPE_CHECKING:
    from eager_sgl.embedded.arguments import Arguments

__all__ = ["ARGUMENTS_FILE", "DEATH_FILE", "how_it_ended", "main"]

ARGUMENTS_FILE = "server_args.json"
DEATH_FILE = "death"
"""The file with a clause on the process that died: "the scheduler died (signal 9)"."""

POLL_SECONDS = 1.0
LOG_SECONDS = 1.0
"""Time for SGLang to write to its log why a process died."""
SHARED_MEMORY = Path("/dev/shm")
TITLE_START = "sglang::"


def main() -> None:
    """Serve until killed, with the argument of the command line above."""
    scratch = Path(sys.argv[1])
    if os.getpgrp() != os.getpid():
        # Started by hand: the group to kill must hold no other process.
        os.setpgid(0, 0)
    threading.Thread(target=_watch, args=(scratch,), daemon=True).start()
    from eager_sgl.embedded.arguments import devices_fault, resolve_arguments

    num_devices = _num_devices()
    server_args = json.loads((scratch / ARGUMENTS_FILE).read_text())
    arguments = resolve_arguments(server_args, on_cpu=num_devices == 0)
    if fault := devices_fault(arguments, num_devices):
        sys.exit(fault)
    if num_devices == 0:
        if "dtype" not in arguments:
            arguments["dtype"] = dtype_of(arguments["model_path"], arguments.get("revision"))
        is_given = "mem_fraction_static" in server_args
        arguments = _fitted(arguments, scratch, is_given=is_given)
        _prepare_environment(Path(arguments["model_path"]), scratch)
    from sglang.srt.entrypoints.http_server import launch_server
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import ServerArgs

    load_plugins()
    launch_server(ServerArgs(**arguments))


def _num_devices() -> int:
    """The devices that SGLang can serve on; 0 if the machine has only its CPU."""
    from eager_sgl.embedded.cpu_platform import accelerator_present

    if not accelerator_present():
        return 0
    import torch

    return max(torch.accelerator.device_count(), 1)


def _prepare_environment(model_folder: Path, scratch: Path) -> None:
    # By default the ranks, here a single one, meet on a port open to every network interface.
    meeting = f"file://{scratch}/ranks_{os.getpid()}"
    os.environ.setdefault("SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE", meeting)
    for name, value in compute_variables(model_folder).items():
        os.environ.setdefault(name, value)


def _fitted(arguments: Arguments, scratch: Path, *, is_given: bool) -> Arguments:
    """The arguments with which the model fits the memory; without any, the process ends."""
    try:
        return fitted(arguments, is_given=is_given)
    except ValueError as error:
        _write_whole(scratch / DEATH_FILE, str(error))
        sys.exit(str(error))


def _watch(scratch: Path) -> None:
    """Kill the process group once its owner or a process of SGLang has ended."""
    owner = os.getppid()
    titles: dict[BaseProcess, str] = {}
    while True:
        titles |= {child: titles.get(child) or _title(child) for child in active_children()}
        ready = wait([0, *(child.sentinel for child in titles)], POLL_SECONDS)
        # A fork of the owner may keep the pipe open; then the parent's id shows the owner's end.
        if 0 in ready or os.getppid() != owner:
            shutil.rmtree(scratch, ignore_errors=True)
            break
        ended = [(child, titles.pop(child)) for child in list(titles) if child.sentinel in ready]
        if deaths := [death for child, title in ended if (death := _death(child, title))]:
            _write_whole(scratch / DEATH_FILE, deaths[0])
            time.sleep(LOG_SECONDS)
            break
    _remove_leftovers()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _title(child: BaseProcess) -> str:
    """The title that a process of SGLang gives itself; empty before that, and without a title."""
    assert child.pid is not None
    with contextlib.suppress(psutil.Error):
        name: str = psutil.Process(child.pid).name()
        return name.removeprefix(TITLE_START) if name.startswith(TITLE_START) else ""
    return ""


def _death(child: BaseProcess, title: str) -> str | None:
    """A clause on a process that has ended; None for a helper that has finished its work."""
    code = _exit_code(child)
    if code == 0 and not title:
        return None
    name = f"the {title}" if title else "a process of the server"
    return f"{name} died ({how_it_ended(code)})" if code is not None else f"{name} died"


def _exit_code(child: BaseProcess) -> int | None:
    """The exit code, which is set a moment later where another thread waits for the child too."""
    deadline = time.monotonic() + POLL_SECONDS
    while child.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return child.exitcode


def how_it_ended(exit_code: int) -> str:
    """An `exitcode` or `returncode` in words."""
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def _write_whole(path: Path, text: str) -> None:
    """Write a file atomically."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)


def _remove_leftovers() -> None:
    """Delete the shared memory that SIGKILL gives SGLang no time to delete."""
    group, inodes = os.getpgrp(), set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == group:
                inodes |= _shared_inodes((process / "maps").read_text())
    for segment in SHARED_MEMORY.iterdir() if inodes else ():
        with contextlib.suppress(OSError):
            if segment.stat().st_ino in inodes:
                segment.unlink()


def _shared_inodes(maps: str) -> set[int]:
    """Inodes of shared memory in a Linux list of mappings (where a semaphore's name differs)."""
    return {int(line.split()[4]) for line in maps.splitlines() if f"{SHARED_MEMORY}/" in line}


if __name__ == "__main__":
    main()
