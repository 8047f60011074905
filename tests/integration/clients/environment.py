"""The environment of the clients, which uv makes at its first use on a machine.

Checkouts share it: its packages are 800 MB, and Python compiles them once.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

__all__ = ["VERSIONS", "clients_bin", "variables"]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ROOT = Path(__file__).parents[3]
FOLDER = Path.home() / ".cache" / "eager_sgl" / "clients"

VERSIONS: Mapping[str, str] = {
    name.partition("[")[0]: version
    for name, _, version in (
        line.partition("==")
        for line in REQUIREMENTS.read_text().splitlines()
        if not line.startswith("#")
    )
}
"""The version of every client by the name of its package."""


def clients_bin() -> Path:
    """The folder with the clients' commands and their Python.

    Raises:
        CalledProcessError: the packages could not be installed.
    """
    wanted = f"{sys.version}\n{REQUIREMENTS.read_text()}"
    folder = FOLDER / sha256(wanted.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the other checkout's installation has ended
        if not (folder / "installed").exists():
            python = str(folder / "bin/python")
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", python, "-r", str(REQUIREMENTS))
            (folder / "installed").touch()
    return folder / "bin"


def _uv(*arguments: str) -> None:
    subprocess.run([Path(sys.executable).with_name("uv"), *arguments, "--quiet"], check=True)


def variables(folder: Path) -> dict[str, str]:
    """The environment variables of a client: its commands first, and no look at the internet.

    Args:
        folder: for answers that the client keeps; else a second run would ask for nothing.
    """
    ours = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return ours | {
        "PATH": f"{clients_bin()}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "DSPY_CACHEDIR": str(folder / "dspy_cache"),
        "INSPECT_DISPLAY": "plain",
    }
