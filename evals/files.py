"""Files of JSON that are written whole or not at all, and what can go wrong with them."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["RefusedError", "StoreError", "reported", "to_line", "write_whole"]

_dump = partial(json.dumps, allow_nan=False, ensure_ascii=False)


class StoreError(Exception):
    """The folder of a run cannot be used; the text is one sentence for the user."""


class RefusedError(StoreError):
    """The run may not go on in its folder, however often it is asked for."""


def to_line(content: dict[str, Any]) -> str:
    """JSON on one line, null for every number that JSON does not have."""
    return _dump(_finite(content)) + "\n"


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """A file of JSON that appears complete or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    partial_path = path.with_name(f".{path.name}.partial")
    with reported(path):
        partial_path.write_text(_dump(_finite(content), indent=2) + "\n", encoding="utf-8")
        os.replace(partial_path, path)


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns what the file system says into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror or error}") from error
