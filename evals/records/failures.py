"""Prompts that failed for good: why each has no result, and the file that says so."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from eager_sgl.errors import EagerError
from evals.records.files import reported
from evals.records.lines import BadLine, LineFile, read_lines
from evals.records.plan import Cell, Plan
from evals.records.store import Key
from evals.tasks import Sample

__all__ = ["FAILURES", "Failure", "FailureLog", "failed_per_cell", "failure_note", "read_failures"]

FAILURES = "failures.jsonl"
MAX_NAMED = 5
MAX_REASON = 300


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One line of `failures.jsonl`: a prompt that was tried in a cell and has no result there.

    Attributes:
        stage_two: as in a cell.
        line: of the prompt in the file of the user's own prompts; None in other tasks.
        stage: 1, or 2 where extra sequences failed.
        error: type of the exception.
        reason: its text.
        generated: tokens that are known to have been decoded for it; there may have been more.
        traceback: None for an error that its text explains.
        session: of the run that wrote the line.
    """

    method: str
    max_sequences: int
    threshold: float | None
    temperature: float
    seed: int
    stage_two: str | None
    sample_id: str
    line: int | None
    stage: int
    error: str
    reason: str
    generated: int
    traceback: str | None
    session: int

    @classmethod
    def of(
        cls,
        error: BaseException,
        cell: Cell,
        sample: Sample,
        *,
        stage: int,
        generated: int,
        session: int,
    ) -> Self:
        """What an exception says of a prompt."""
        is_explained = isinstance(error, EagerError)
        return cls(
            **cell._asdict(),
            sample_id=sample.id,
            line=sample.line,
            stage=stage,
            error=type(error).__name__,
            reason=str(error),
            generated=generated,
            traceback=None if is_explained else "".join(traceback.format_exception(error)),
            session=session,
        )

    @property
    def cell(self) -> Cell:
        """Where in a sweep the result is missing."""
        return Cell(
            self.method,
            self.max_sequences,
            self.threshold,
            self.temperature,
            self.seed,
            self.stage_two,
        )

    @property
    def key(self) -> Key:
        """That of the missing result."""
        return self.cell, self.sample_id

    @property
    def prompt(self) -> str:
        """Which prompt it was."""
        return repr(self.sample_id) + (f" (line {self.line})" if self.line else "")

    @property
    def sentence(self) -> str:
        """Why, on one line."""
        reason = " ".join(self.reason.split()) or "no reason"
        shown = reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}…"
        return f"{self.error}: {shown}" if self.traceback else shown


class _Latest(dict[Key, Failure]):
    """The last failure of each key, also of one that has a result by now."""

    def accept(self, number: int, line: dict[str, Any]) -> None:
        """Take a line in."""
        failure = msgspec.convert(line, Failure)
        self[failure.key] = failure

    def open(self, results: Collection[Key]) -> list[Failure]:
        """The failures of what has no result."""
        return [failure for key, failure in self.items() if key not in results]


class FailureLog:
    """Owns `failures.jsonl`; a context manager.

    Args:
        path: of the file, which is made if it is not there.

    Attributes:
        bad, num_torn: see `evals.records.lines.LineFile`.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._latest = _Latest()
        self._lines = LineFile(path, self._latest.accept)
        self.bad, self.num_torn = self._lines.bad, self._lines.num_torn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.__exit__(*exception)

    def append(self, failure: Failure) -> None:
        """Write a failure through to the file."""
        self._lines.append(asdict(failure))
        self._latest[failure.key] = failure

    def open(self, results: Collection[Key]) -> list[Failure]:
        """The failures of what has no result."""
        return self._latest.open(results)


def read_failures(path: Path, results: Collection[Key]) -> tuple[list[Failure], list[BadLine]]:
    """The failures in a file, which there need not be, of what has no result; and its bad lines.

    Raises:
        StoreError: the file cannot be read.
    """
    latest = _Latest()
    with reported(path):
        bad, _ = read_lines(path.read_bytes() if path.exists() else b"", latest.accept)
    return latest.open(results), bad


def failed_per_cell(
    failures: Iterable[Failure], plan: Plan, results: Collection[Key]
) -> dict[Cell, int]:
    """Prompts without a result for a failure, where there are any.

    A prompt whose first stage failed lacks the methods of two stages as well.
    """
    followers = {group.first: group.followers for group in plan.groups}
    keys = {
        (cell, failure.sample_id)
        for failure in failures
        for cell in (failure.cell, *followers.get(failure.cell, ()))
    }
    found: dict[Cell, int] = {}
    for cell, _ in keys - set(results):
        found[cell] = found.get(cell, 0) + 1
    return found


def failure_note(failures: Collection[Failure], failed: Mapping[Cell, int]) -> str:
    """Which prompts failed and why, in one paragraph; there is at least one."""
    named: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        methods = named.setdefault((failure.prompt, failure.sentence), [])
        if failure.cell.name not in methods:
            methods.append(failure.cell.name)
    shown = [
        f"{prompt} in {', '.join(methods)}: {reason.rstrip('.')}"
        for (prompt, reason), methods in list(named.items())[:MAX_NAMED]
    ]
    more = f"; and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    generated = sum(failure.generated for failure in failures)
    return (
        f"FAILED: {sum(failed.values()):,} results are missing because their prompt failed "
        f"({FAILURES} has all reasons): {'; '.join(shown)}{more}. Rows and comparisons are over "
        "the other prompts; what was decoded for those that failed is in no figure, and known in "
        f"part only: at least {generated:,} tokens. The same command tries them again."
    )
