"""`failures.jsonl`: the prompts that failed for good, and why."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import msgspec

from eager_sgl import EagerError
from evals.records.files import reported
from evals.records.lines import BadLine, LineFile, read_lines
from evals.records.plan import Cell, Entry, Key, Plan
from evals.tasks import Sample

__all__ = ["FAILURES", "Failure", "FailureLog", "failed_per_cell", "failure_note", "read_failures"]

FAILURES = "failures.jsonl"
MAX_NAMED = 5
MAX_REASON = 300


@dataclass(frozen=True, kw_only=True)
class Failure(Entry):
    """A line of `failures.jsonl`: a prompt without a result in a cell, because it failed there.

    Attributes:
        stage_two: where extra sequences begin; None for a method of one stage.
        line: of the prompt in the user's own file; None in other tasks.
        stage: 1, or 2 where extra sequences failed.
        error: type of the exception.
        reason: its text.
        generated: tokens that are known to have been decoded for it; there may have been more.
        traceback: None for an error that its text explains.
        session: of the run that wrote the line.
    """

    stage_two: str | None
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
        """The failure of a sample by an exception."""
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
    def stage_two_mode(self) -> str | None:
        return self.stage_two

    @property
    def prompt(self) -> str:
        """The prompt's name in messages."""
        return repr(self.sample_id) + (f" (line {self.line})" if self.line else "")

    @property
    def sentence(self) -> str:
        """The reason, on one line."""
        reason = " ".join(self.reason.split()) or "no reason"
        shown = reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}…"
        return f"{self.error}: {shown}" if self.traceback else shown


class _Latest(dict[Key, Failure]):
    """The last failure of each key, whether or not it has a result since."""

    def accept(self, number: int, line: Mapping[str, object]) -> None:
        failure = msgspec.convert(line, Failure)
        self[failure.key] = failure

    def open(self, results: Collection[Key]) -> list[Failure]:
        """The failures that no result has followed."""
        return [failure for key, failure in self.items() if key not in results]


class FailureLog:
    """Owns `failures.jsonl`; a context manager.

    Args:
        path: of the file, which is created if it does not exist.

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
        """The failures that no result has followed."""
        return self._latest.open(results)


def read_failures(path: Path, results: Collection[Key]) -> tuple[list[Failure], list[BadLine]]:
    """The failures in a file, if it exists, that no result has followed; and its bad lines.

    Raises:
        StoreError: the file cannot be read.
    """
    latest = _Latest()
    with reported(path):
        bad, _ = read_lines(path.read_bytes() if path.exists() else b"", latest.accept)
    return latest.open(results), bad


def failed_per_cell(
    failures: Iterable[Failure], plan: Plan, results: Collection[Key]
) -> Mapping[Cell, int]:
    """Number of results that are missing because of a failure, by cell.

    A prompt that failed in its first stage lacks the methods of two stages, too.
    """
    followers = {group.first: group.followers for group in plan.groups}
    keys = {
        (cell, failure.sample_id)
        for failure in failures
        for cell in (failure.cell, *followers.get(failure.cell, ()))
    }
    return Counter(cell for cell, _ in keys - set(results))


def failure_note(failures: Collection[Failure], failed: Mapping[Cell, int]) -> str:
    """One paragraph that names the prompts that failed, of which there is at least one, and why."""
    named: dict[tuple[str, str], dict[str, None]] = {}
    for failure in failures:
        named.setdefault((failure.prompt, failure.sentence), {})[failure.cell.name] = None
    shown = [
        f"{prompt} in {', '.join(methods)}: {reason.rstrip('.')}"
        for (prompt, reason), methods in list(named.items())[:MAX_NAMED]
    ]
    more = f"; and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    generated = sum(failure.generated for failure in failures)
    return (
        f"FAILED: {sum(failed.values()):,} results are missing because their prompts failed "
        f"({FAILURES} has all reasons): {'; '.join(shown)}{more}. Rows and comparisons are over "
        "the other prompts; no figure includes what was decoded for those that failed, at least "
        f"{generated:,} tokens. The same command tries them again."
    )
