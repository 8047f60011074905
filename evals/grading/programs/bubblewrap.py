"""The command line of bubblewrap, which decides what a program in the sandbox sees."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["closed_path", "command"]

GUEST = Path(__file__).with_name("guest")
SCRATCH = "/scratch"
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
ENTER = (
    "import sys; sys.path.insert(0, '/guest'); "
    "from evals.grading.programs.guest import start; start."
)


def command(settings: Mapping[str, object], scratch_bytes: int, calls: int) -> list[str]:
    """The command that starts `evals.grading.programs.guest.start` in isolation.

    Args:
        settings: arguments of `start.main`; as root `uid` is the user that the guest becomes, else
            it is None.
        scratch_bytes: size of the scratch folder.
        calls: file descriptor of the filter of system calls.
    """
    words = [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
        *("--cap-drop", "ALL", "--seccomp", str(calls)),
    ]
    if settings["uid"] is None:
        words += ["--unshare-user"]
    else:  # capabilities to become another user, which drops them
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for path in _visible():
        words += _show(Path(path), path)
    words += ["--perms", "0755", "--dir", "/dev"]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        words += ["--dev-bind", device, device]
    words += _show(GUEST, "/guest/evals/grading/programs/guest")
    words += ["--perms", "1777", "--size", str(scratch_bytes), "--tmpfs", SCRATCH]
    words += ["--remount-ro", "/", "--chdir", SCRATCH, *_environment()]
    return words + _python({**settings, "paths": [_numpy().parent.as_posix()]})


def closed_path() -> str | None:
    """The first path that a program needs and not every user can read; None if all can."""
    for path in _visible():
        needed = 0o005 if os.path.isdir(path) else 0o004
        if os.stat(path).st_mode & needed != needed:
            return path
    return None


def _show(path: Path, target: str) -> list[str]:
    """Options that show a path read-only at the target, under folders that every user may enter."""
    parents = [str(parent) for parent in reversed(Path(target).parents)]
    folders = [word for parent in parents[1:] for word in ("--perms", "0755", "--dir", parent)]
    if path.is_symlink() and target in LIBRARIES:
        return [*folders, "--symlink", os.readlink(path), target]
    return [*folders, "--ro-bind", str(path), target]


def _environment() -> list[str]:
    settings = {
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        # A thread per core would count against the limits.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return [word for item in settings.items() for word in ("--setenv", *item)]


def _python(settings: Mapping[str, object]) -> list[str]:
    # No site: path files of installed packages could run code and name paths of this machine.
    return [_interpreter(), "-s", "-S", "-P", "-c", f"{ENTER}main({json.dumps(settings)!r})"]


def _interpreter() -> str:
    # Not that of a virtual environment, whose standard library is elsewhere.
    executable: str = getattr(sys, "_base_executable", sys.executable)
    return os.path.realpath(executable)


@functools.cache
def _visible() -> tuple[str, ...]:
    """The paths of this machine that a program can read."""
    home = Path(os.path.realpath(sys.base_prefix))
    python = [str(home / "lib"), str(home / "lib64"), _interpreter()]
    paths = [*LIBRARIES, *python, str(_numpy()), f"{_numpy()}.libs"]
    return tuple(path for path in dict.fromkeys(paths) if os.path.exists(path))


@functools.cache
def _numpy() -> Path:
    """The folder of numpy, found without importing it."""
    spec = importlib.util.find_spec("numpy")
    assert spec is not None, "numpy is not installed"
    assert spec.origin is not None, "numpy has no file"
    return Path(spec.origin).parent
