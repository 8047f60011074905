"""The cost and the accuracy of each method beside Full Parallel's, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evals.records.plan import PARALLEL
from evals.report.rows import Row

__all__ = ["savings"]


def savings(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence per method, where each has a single row and all have the same prompts.

    Without labels it has the cost alone, and without votes no majority.
    """
    parallels = [row for row in rows if row.cell.method == PARALLEL]
    is_single = len({row.cell.name for row in rows}) == len(rows)
    if not parallels or not is_single or len({row.num_prompts for row in rows}) > 1:
        return
    (parallel,) = parallels
    for row in rows:
        if row is not parallel:
            clauses = [f"{_cost(row, parallel)} than parallel", *_accuracy(row, parallel)]
            yield f"{row.cell.name}: {'; '.join(clauses)}."


def _cost(row: Row, parallel: Row) -> str:
    changes = [_change(row.counts.generated, parallel.counts.generated, "tokens")]
    if row.wall_seconds and parallel.wall_seconds:
        changes.append(_change(row.wall_seconds, parallel.wall_seconds, "seconds"))
    return " and ".join(changes)


def _change(number: float, of_parallel: float, noun: str) -> str:
    share = number / of_parallel - 1
    return f"{abs(share):.0%} {'fewer' if share < 0 else 'more'} {noun}"


def _accuracy(row: Row, parallel: Row) -> Iterator[str]:
    pairs = {
        "the majority's answer": (row.cons, parallel.cons),
        "some sequence": (row.coverage, parallel.coverage),
    }
    for subject, (mean, other) in pairs.items():
        if mean and other:
            there = f"there {other.value:.1%}"
            yield f"{subject} is right for {mean.value:.1%} of the prompts ({there})"
