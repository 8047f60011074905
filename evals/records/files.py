"""Files of JSON that are written whole or not at all, and what can go wrong with them."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evals.tasks.characters import SURROGATE

__all__ = [
    "RefusedError",
    "StoreError",
    "encoded",
    "replace_file",
    "reported",
    "to_line",
    "write_whole",
]


class StoreError(Exception):
    """The folder of a run cannot be used; the text is one sentence for the user."""


class RefusedError(StoreError):
    """The run may not go on in its folder, however often it is asked for."""


def _dump(content: Any, indent: int | None = None) -> str:
    r"""JSON. For half a surrogate pair it has the six characters `\udXXX`.

    Not JSON's own escape for it, which many readers refuse together with the whole line.
    """
    text = json.dumps(_finite(content), allow_nan=False, ensure_ascii=False, indent=indent)
    return SURROGATE.sub(lambda half: rf"\\u{ord(half[0]):04x}", text)


def to_line(content: dict[str, Any]) -> str:
    """JSON on one line, null for every number that JSON does not have."""
    return _dump(content) + "\n"


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """A file of JSON that appears complete or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    replace_file(path, [_dump(content, indent=2), "\n"])


def replace_file(path: Path, texts: Iterable[str]) -> None:
    """A file of these texts in the place of the one that is there, if any: all of it or nothing.

    Raises:
        StoreError: it cannot be written.
    """
    partial_path = path.with_name(f".{path.name}.partial")
    with reported(path):
        with partial_path.open("wb") as file:
            for text in texts:
                file.write(encoded(text))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial_path, path)


def encoded(text: str) -> bytes:
    r"""UTF-8, with `\udXXX` for half a surrogate pair, which UTF-8 does not have."""
    return text.encode("utf-8", "backslashreplace")


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
