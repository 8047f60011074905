"""Which model it is, and which judges: what names, files and versions say."""

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
"""The folders beside this file that hold what judges."""


def model_name(model: str) -> str:
    """A hub id as it is, also out of the hub's cache; the last component of any other path."""
    if found := SNAPSHOT.search(model):
        return "{owner}/{name}".format(**found.groupdict())
    return Path(model).name if Path(model).is_absolute() or Path(model).exists() else model


def weights_digest(model: str) -> str | None:
    """The same for the same files, wherever they are; None for a model that is not on this machine.

    Of every file the size, the beginning and the end count, a MiB each: quick for any size, and
    enough to tell weights apart that were trained differently.
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
    """Differs wherever the source of a judge does, a comment included.

    A digest, not a number that somebody raises: judgements that are taken for those of another
    judge are not noticed, while a needless difference costs a `--regrade`, which needs no server.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for name in JUDGES for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def library_version(name: str) -> str:
    """Of a distribution; "absent" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
