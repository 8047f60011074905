"""`results.jsonl`: the results of a run, of which none is lost or doubled."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Self

from evals.records.files import reported
from evals.records.lines import BadLine, LineFile, read_lines
from evals.records.plan import Cell, Key
from evals.records.record import PromptRecord

__all__ = ["RESULTS", "ResultStore", "read_records", "read_results"]

RESULTS = "results.jsonl"


class ResultStore:
    """Owns `results.jsonl`; a context manager.

    Args:
        path: of the file, which is created if it does not exist.
        keys: those of the run's results; None for any.
        cells: those of the run, where its prompts are not known; None for any.

    Attributes:
        records: all results by cell and sample id, in the order of the file.
        session: number of this session, for the lines that it writes.
        bad, num_torn: see `evals.records.lines.LineFile`.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        keys: Container[Key] | None = None,
        cells: Container[Cell] | None = None,
    ) -> None:
        self.path = path
        reader = _Reader(keys, cells)
        self._lines = LineFile(path, reader.accept)
        self.records = reader.records
        self.bad, self.num_torn = self._lines.bad, self._lines.num_torn
        sessions = (record.session for record in self.records.values())
        self.session = max(sessions, default=-1) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.__exit__(*exception)

    def append(self, record: PromptRecord) -> None:
        """Write a finished prompt through to the file: the whole line or nothing."""
        assert record.key not in self.records, f"{record.key} has a result already"
        self._lines.append(record.to_json())
        self.records[record.key] = record

    def rewrite(self, records: Iterable[PromptRecord]) -> None:
        """Replace all results by these: the whole file or nothing."""
        self.records = {record.key: record for record in records}
        self._lines.rewrite(record.to_json() for record in self.records.values())


def read_results(
    path: Path, cells: Container[Cell] | None = None
) -> tuple[list[PromptRecord], list[BadLine]]:
    """The results in a file, which another process may be writing to, and its bad lines.

    Args:
        path: of the file, which does not change.
        cells: those of the run; None for any.

    Raises:
        StoreError: the file cannot be read.
    """
    reader = _Reader(None, cells)
    with reported(path):
        bad, _ = read_lines(path.read_bytes(), reader.accept)
    return list(reader.records.values()), bad


def read_records(path: Path, cells: Container[Cell] | None = None) -> list[PromptRecord]:
    """The results alone, where the bad lines have been reported already."""
    records, _ = read_results(path, cells)
    return records


class _Reader:
    """Collects the lines of a file, and refuses those that are no result of the run."""

    def __init__(self, keys: Container[Key] | None, cells: Container[Cell] | None = None) -> None:
        self.records: dict[Key, PromptRecord] = {}
        self._numbers: dict[Key, int] = {}
        self._keys, self._cells = keys, cells

    def accept(self, number: int, line: Mapping[str, object]) -> None:
        record = PromptRecord.from_json(line)
        key = record.key
        if key in self.records:
            raise ValueError(f"the result of line {self._numbers[key]} again")
        if self._cells is not None and record.cell not in self._cells:
            raise ValueError("of no cell of this run")
        if self._keys is not None and key not in self._keys:
            raise ValueError("of no cell and prompt of this run")
        self.records[key] = record
        self._numbers[key] = number
