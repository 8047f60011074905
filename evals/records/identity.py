"""The identity of a model and of the judges: names, digests of files and versions."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["judges_digest", "library_version", "model_name", "weights_digest"]

SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+)--(?P<name>[^/]+)/snapshots/[^/]+/?$")
WEIGHTS = ("config.json", "*.safetensors", "*.bin", "*.gguf")
PIECE = 1 << 20
JUDGES = ("grading", "tasks")
"""The folders of `evals` that hold the judges."""


def model_name(model: str) -> str:
    """The hub id, also of a path in the hub's cache; the last component of any other path."""
    if match := SNAPSHOT.search(model):
        return "{owner}/{name}".format(**match.groupdict())
    return Path(model).name if Path(model).is_absolute() or Path(model).exists() else model


def weights_digest(model: str) -> str | None:
    """A digest of a model's files, wherever they are; None for a model not on this machine.

    It is over the size, first MiB and last MiB of every file: quick for any size, and enough to
    distinguish weights that were trained differently.
    """
    files = sorted({path for pattern in WEIGHTS for path in Path(model).glob(pattern)})
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(PIECE))
            file.seek(max(0, size - PIECE))
            digest.update(file.read(PIECE))
    return digest.hexdigest()[:16]


@cache
def judges_digest() -> str:
    """A digest of the judges' source, comments included.

    A version number that somebody forgets to raise would mix the judgements of two judges unseen; a
    needless difference costs a `--regrade`, which needs no server.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for name in JUDGES for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def library_version(name: str) -> str:
    """The version of a distribution; "absent" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
