"""The cost and the accuracy of each method beside Full Parallel's, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evals.analysis.beside import BesideParallel, Difference
from evals.records.plan import PARALLEL
from evals.report.column import interval
from evals.report.rows import Row

__all__ = ["savings"]


def savings(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence per method, where each has a single row and its prompts are those of parallel."""
    parallels = [row for row in rows if row.cell.method == PARALLEL]
    if len(parallels) != 1 or len({row.cell.name for row in rows}) < len(rows):
        return
    (parallel,) = parallels
    for row in rows:
        if row.beside and row.num_prompts == row.beside.num_prompts == parallel.num_prompts:
            clauses = (_cost(row, parallel, row.beside), *_accuracy(row, row.beside))
            yield f"{row.cell.name} beside parallel: {'; '.join(clauses)}."


def _cost(row: Row, parallel: Row, beside: BesideParallel) -> str:
    changes = [_change(beside.tokens, "tokens") + _by_kind(row)]
    if row.wall_seconds and parallel.wall_seconds:
        changes.append(_change(row.wall_seconds / parallel.wall_seconds, "seconds"))
    return ", ".join(changes)


def _by_kind(row: Row) -> str:
    """The shares of a vote's tokens that were for samples that were left, and for probes."""
    if row.votes is None:
        return ""
    kinds = {"of samples that were left": row.votes.left, "of probes": row.votes.probes}
    shares = {kind: round(100 * n / max(row.counts.generated, 1)) for kind, n in kinds.items()}
    clauses = [f"{share}% {kind}" for kind, share in shares.items() if share]
    return f" (of its tokens {', '.join(clauses)})" if clauses else ""


def _change(share: float, noun: str) -> str:
    if not (change := round(100 * abs(share - 1))):
        return f"as many {noun}"
    return f"{change}% {'fewer' if share < 1 else 'more'} {noun}"


def _accuracy(row: Row, beside: BesideParallel) -> Iterator[str]:
    if row.cons and beside.majority:
        share, difference = row.cons.value, _difference(beside.majority)
        yield f"the voted answer is right for {share:.1%} of the prompts ({difference})"
    if row.coverage:
        share, difference = row.coverage.value, _difference(beside.coverage)
        yield f"some sequence is right for {share:.1%} of the prompts ({difference})"


def _difference(difference: Difference) -> str:
    ends = f" {interval(difference.interval)}" if difference.interval else ""
    return f"{difference.value:+.3f}{ends}"
