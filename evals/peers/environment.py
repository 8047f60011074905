"""The environment of the peers, apart from this package's: their dependencies may clash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["PEERS", "peers_python", "versions"]

PEERS = {"its-hub": "1.2.0", "optillm": "0.4.0"}
"""The versions that are compared."""
_WITH_DEPENDENCIES = (f"its-hub[lm]=={PEERS['its-hub']}", "openai>=2", "numpy")
_ALONE = (f"optillm=={PEERS['optillm']}",)
"""Its module of self-consistency needs none of its dependencies, which are those of a server."""
_CACHE = Path.home() / ".cache" / "eager_sgl" / "peers"


def peers_python(folder: Path = _CACHE) -> Path:
    """The Python of the environment, which is made when it is first asked for."""
    python, installed = folder / "bin" / "python", folder / "installed"
    wanted = " ".join((*_WITH_DEPENDENCIES, *_ALONE))
    if installed.exists() and installed.read_text() == wanted:
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    install = (uv, "pip", "install", "--quiet", "--python", str(python))
    _run(*install, *_WITH_DEPENDENCIES)
    _run(*install, "--no-deps", *_ALONE)
    installed.write_text(wanted)
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def versions() -> str:
    """The peers with their versions, in words."""
    return ", ".join(f"{name} {version}" for name, version in PEERS.items())
