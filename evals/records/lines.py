"""Files of JSON lines: no written line is lost, and a bad line costs no other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from evals.records.files import encoded, replace_file, reported, to_line

__all__ = ["BAD", "BadLine", "LineFile", "describe", "read_lines"]

BAD = ".bad"
"""Suffix of the file that keeps another file's bad lines."""
MAX_NAMED = 3

Accept = Callable[[int, Mapping[str, object]], None]
"""Called with number and content of a line; raises ValueError, KeyError or TypeError."""


@dataclass(frozen=True)
class BadLine:
    """A line that is no entry of its file.

    Attributes:
        number: in its file, from 1.
        reason: what is wrong, in a clause.
    """

    number: int
    reason: str
    content: bytes

    def to_json(self) -> dict[str, object]:
        """The line of the file that keeps it; bytes that are no UTF-8 are escaped."""
        text = self.content.decode(errors="backslashreplace")
        return {"line": self.number, "reason": self.reason, "content": text}


def describe(bad: Sequence[BadLine], path: Path) -> str:
    """A phrase that names bad lines, of which there is at least one, and their reasons."""
    named = ", ".join(f"line {line.number} ({line.reason})" for line in bad[:MAX_NAMED])
    more = f" and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
    return f"{named}{more} of {path}"


def read_lines(content: bytes, accept: Accept) -> tuple[list[BadLine], int]:
    """Call `accept` for every good line of a file.

    Returns:
        The bad lines, and the number of bytes up to the end of the last whole line.
    """
    bad: list[BadLine] = []
    *lines, torn = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            accept(number, _object(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            bad.append(BadLine(number, reason, line))
    return bad, len(content) - len(torn)


def _object(line: bytes) -> Mapping[str, object]:
    if not line.strip():
        raise ValueError("blank")
    try:
        content = json.loads(line, parse_constant=_refuse)
    except ValueError as error:
        raise ValueError("no JSON") from error
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


class LineFile:
    """Owns a file of JSON lines; a context manager.

    A process that dies while it writes leaves a torn last line, which the next one cuts off. Bad
    lines move to the file `BAD`, with their numbers and reasons.

    Args:
        path: of the file, which is created if it does not exist.
        accept: called for every good line.

    Attributes:
        bad: the lines that were moved.
        num_torn: bytes that were cut off.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, path: Path, accept: Accept) -> None:
        self.path = path
        with reported(path):
            content = path.read_bytes() if path.exists() else b""
            self.bad, num_whole = read_lines(content, accept)
            self.num_torn = len(content) - num_whole
            if self.bad:
                self._set_aside(content[:num_whole])
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if self.num_torn and not self.bad:
                os.ftruncate(self._file, num_whole)

    def _set_aside(self, content: bytes) -> None:
        """Move the bad lines: copy them first, so that a process that dies here loses none."""
        with self.path.with_name(self.path.name + BAD).open("ab") as aside:
            aside.writelines(encoded(to_line(line.to_json())) for line in self.bad)
        numbers = {line.number for line in self.bad}
        lines = enumerate(content.split(b"\n"), start=1)
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_bytes(b"\n".join(line for number, line in lines if number not in numbers))
        os.replace(partial, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)

    def rewrite(self, contents: Iterable[Mapping[str, object]]) -> None:
        """Replace all lines by these: the whole file or nothing."""
        replace_file(self.path, map(to_line, contents))
        with reported(self.path):
            os.close(self._file)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def append(self, content: Mapping[str, object]) -> None:
        """Write a line through to the file: the whole line or nothing."""
        line = encoded(to_line(content))
        with reported(self.path):
            size = os.fstat(self._file).st_size
            try:
                _write(self._file, line)
            except BaseException:  # an interruption, too
                os.ftruncate(self._file, size)
                raise


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
