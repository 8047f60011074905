"""A figure of a report: its source, where it is shown, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Generic, TypeVar

from evals.analysis.matching import MatchedParallel
from evals.analysis.metrics import Estimate

__all__ = [
    "ABSENT",
    "Column",
    "difference",
    "interval",
    "share",
    "signed",
    "tenths",
    "whole",
    "with_error",
    "without_error",
]

ABSENT = "–"
Source = TypeVar("Source", contravariant=True)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Column(Generic[Source, Value]):
    """A figure of a row.

    Attributes:
        key: its field of `summary.json`; empty for none.
        value: of a row; None where it is absent.
        line: its label in a table with a column per method, where {M} is the largest M.
        head: its head in a table with a line per row.
        page: its head on the page.
        text: shows a value that is not absent.
        short: shows it in tables with a line per row, where `text` is too long for them.
        needed_by: whether a row needs the line of the figure, which is omitted if none does.
    """

    key: str
    value: Callable[[Source], Value | None]
    line: str = ""
    head: str = ""
    page: str = ""
    text: Callable[[Value], str] = str
    short: Callable[[Value], str] | None = None
    needed_by: Callable[[Source], bool] = lambda _: True

    def show(self, row: Source, *, in_short: bool = False) -> str:
        """The figure of a row as text."""
        value = self.value(row)
        show = self.short if in_short and self.short else self.text
        return ABSENT if value is None else show(value)

    def fields(self, row: Source) -> Iterator[tuple[str, object]]:
        """Its fields of `summary.json`; a mean has a second one, KEY_stderr."""
        value: Any = self.value(row)
        if is_dataclass(value) and not isinstance(value, (Estimate, type)):
            value = asdict(value)
        if self.key and self.text is with_error:
            yield self.key, value and value.value
            yield f"{self.key}_stderr", value and value.stderr
        elif self.key:
            yield self.key, value


def with_error(mean: Estimate) -> str:
    """`0.667 ± 0.333`; a single prompt has no standard error."""
    stderr = f"{mean.stderr:.3f}" if mean.stderr == mean.stderr else ABSENT
    return f"{mean.value:.3f} ± {stderr}"


def without_error(mean: Estimate) -> str:
    """`0.667`."""
    return f"{mean.value:.3f}"


def whole(number: int) -> str:
    """`1,741`."""
    return f"{number:,}"


def tenths(number: float) -> str:
    """`68.7`."""
    return f"{number:.1f}"


def share(part: float) -> str:
    """`93.3%`."""
    return f"{part:.1%}"


def signed(value: float) -> str:
    """`+0.170`."""
    return f"{value:+.3f}"


def interval(ends: tuple[float, float]) -> str:
    """`[-0.290, +0.565]`."""
    return f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"


def difference(matched: MatchedParallel) -> str:
    """`+0.170 [-0.290, +0.565]`; a single prompt has no interval."""
    ends = ABSENT if matched.interval is None else interval(matched.interval)
    return f"{matched.difference:+.3f} {ends}"
