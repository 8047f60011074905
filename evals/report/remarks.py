"""What became of the sequences, and what the paper reports: lines of the table, or sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evals.analysis.judged import JudgedCounts
from evals.report.summary import Row

__all__ = ["ABSENT", "Cell", "failed_prompts", "judgements", "of_the_paper", "remarks"]

ABSENT = "–"
Cell = Callable[[Row], str]

LABELS = {
    "num_unjudged": "sequences not judged",
    "num_timed_out": "judging timed out",
    "num_truncated": "cut at the length limit",
    "num_repetition": "  of these, in a repetition",
}
UNLABELLED = (
    "There are no reference answers: nothing was judged, and figures that need labels are absent."
)


def judgements(rows: Sequence[Row]) -> list[tuple[str, Cell]]:
    """A line for each thing that went wrong with any sequence."""
    return [
        (label, _number(name))
        for name, label in LABELS.items()
        if any(_count(row, name) for row in rows)
    ]


def _number(name: str) -> Cell:
    return lambda row: ABSENT if row.judged is None else f"{_count(row, name):,}"


def _count(row: Row, name: str) -> int:
    """Without labels, that nothing was judged is no news."""
    if row.judged is None or (name == "num_unjudged" and row.coverage is None):
        return 0
    return int(getattr(row.judged, name))


def failed_prompts(rows: Sequence[Row]) -> list[tuple[str, Cell]]:
    """How many prompts failed for good, where any did."""
    if not any(row.num_failed for row in rows):
        return []
    return [("prompts failed", lambda row: f"{row.num_failed:,}")]


def of_the_paper(rows: Sequence[Row]) -> list[tuple[str, Cell]]:
    """The paper's own figures, where it has any for these rows."""
    if not any(row.paper for row in rows):
        return []
    return [
        ("the paper's Pass@32", lambda row: f"{row.paper.pass_at_k:.2f}" if row.paper else ABSENT),
        (
            "the paper's #T, millions",
            lambda row: f"{row.paper.million_tokens:g}" if row.paper else ABSENT,
        ),
    ]


def remarks(rows: Sequence[Row], *, in_table: bool) -> tuple[str, ...]:
    """Sentences under the table.

    Args:
        rows: of the table.
        in_table: whether the table has the lines of `judgements` itself.
    """
    found = [UNLABELLED] if all(row.coverage is None for row in rows) else []
    if not in_table:
        found += [
            f"{_name(row)}: {row.num_failed:,} prompts failed." for row in rows if row.num_failed
        ]
        found += [f"{_name(row)}: {_listed(row.judged)}." for row in rows if _has_any(row)]
    found += [_adaptive(row) for row in rows if row.adaptive_threshold]
    found += [_walks(row) for row in rows if row.inexact and row.inexact.num_steps]
    if reported := [row for row in rows if row.paper]:
        found.append(_reported(reported))
    return tuple(found)


def _adaptive(row: Row) -> str:
    adaptive = row.adaptive_threshold
    assert adaptive is not None, f"{row.name} has no adaptive θ"
    final = ", ".join(f"{theta:.3f}" for theta in adaptive.final)
    quantile = ", ".join(f"{each:.4f}" for each in adaptive.quantile)
    return (
        f"{_name(row)}: θ is the adaptive quantile, at the end {final} (q = {quantile}) after "
        f"{adaptive.num_steps:,} monitored steps; prompts branched at {adaptive.lowest:.3f} to "
        f"{adaptive.highest:.3f}, median {adaptive.median:.3f}."
    )


def _walks(row: Row) -> str:
    inexact = row.inexact
    assert inexact is not None, f"{row.name} does not walk"
    return (
        f"{_name(row)}: at {inexact.num_steps:,} stored steps, in {inexact.num_trees:,} of "
        f"{inexact.of_trees:,} trees, top-p leaves, or may leave, more tokens than the K known "
        "ones: what walked there was not drawn exactly as the server draws; a larger --top-k mends "
        "it."
    )


def _has_any(row: Row) -> bool:
    return any(_count(row, name) for name in LABELS)


def _name(row: Row) -> str:
    theta = f" θ={row.theta}" if row.theta else ""
    return f"{row.name} M={row.max_sequences}{theta} τ={row.temperature:g}"


def _listed(judged: JudgedCounts | None) -> str:
    counts = {label.strip(): getattr(judged, name) for name, label in LABELS.items()}
    return ", ".join(f"{label}: {count:,}" for label, count in counts.items() if count)


def _reported(rows: Sequence[Row]) -> str:
    figures = "; ".join(
        f"{row.method} {row.paper.pass_at_k:.2f} with {row.paper.million_tokens:g} M tokens"
        + f" (here {', '.join(row.paper.differs)})" * bool(row.paper.differs)
        for row in rows
        if row.paper
    )
    return f"The paper (arXiv 2510.11170; M = 32, τ = 0.6, top-p 0.95) reports Pass@32: {figures}."
