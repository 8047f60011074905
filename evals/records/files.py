"""Files of JSON that are written whole or not at all, and the errors of a run's folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

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
    """The folder of a run cannot be used; the message is one sentence for the user."""


class RefusedError(StoreError):
    """The run must not continue in its folder; repeating the command does not help."""


def _dump(content: object, indent: int | None = None) -> str:
    r"""JSON, with the six characters `\udXXX` for half a surrogate pair.

    Many readers refuse the whole line for JSON's escape of it.
    """
    text = json.dumps(_finite(content), allow_nan=False, ensure_ascii=False, indent=indent)
    return SURROGATE.sub(lambda half: rf"\\u{ord(half[0]):04x}", text)


def to_line(content: Mapping[str, object]) -> str:
    """JSON on one line, null for every number that JSON does not have."""
    return _dump(content) + "\n"


def write_whole(path: Path, content: Mapping[str, object]) -> None:
    """Write a file of JSON, which appears complete or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    replace_file(path, [_dump(content, indent=2), "\n"])


def replace_file(path: Path, texts: Iterable[str]) -> None:
    """Write a file of these texts, or replace it: all of it or nothing.

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


def _finite(value: object) -> object:
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
    """Raise the file system's errors as a StoreError that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror or error}") from error
