"""Where a method beats Full Parallel at equal tokens and where it does not, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evals.analysis.intervals import MIN_PROMPTS
from evals.analysis.matching import MatchedParallel
from evals.records.plan import PARALLEL
from evals.report.rows import Row

__all__ = ["findings"]

Point = tuple[str, MatchedParallel]
"""A setting, and the comparison there."""


def findings(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence per method over all prompts and one by level; none without Full Parallel."""
    parts = _swept_parts(rows)
    for method in dict.fromkeys(row.cell.name for row in rows if row.cell.method != PARALLEL):
        of_method = [row for row in rows if row.cell.name == method]
        overall = [
            (row.cell.setting(parts) or row.cell.setting("M"), row.matched)
            for row in of_method
            if row.matched
        ]
        if overall:
            yield f"{method} against parallel at equal tokens: {_verdicts(overall)}."
        by_level = [
            (f"level {level.level} {row.cell.setting(parts)}".rstrip(), level.matched)
            for row in of_method
            for level in row.levels
            if level.matched and len(row.levels) > 1
        ]
        if by_level:
            verdicts = _counted_verdicts(by_level)
            yield f"{method} within levels, at the tokens of each level: {verdicts}."


def _swept_parts(rows: Sequence[Row]) -> str:
    """Those of M, θ and τ in which the rows differ."""
    cells = [row.cell for row in rows if row.cell.method != PARALLEL]
    return "".join(part for part in "Mθτ" if len({cell.setting(part) for cell in cells}) > 1)


def _verdicts(points: Sequence[Point]) -> str:
    better, worse, undecided, incomparable = _by_verdict(points)
    clauses = _decided(better, worse)
    if undecided:
        is_few = any(matched.num_prompts < MIN_PROMPTS for _, matched in undecided)
        reason = f"under {MIN_PROMPTS} prompts" if is_few else "the 95 % interval covers zero"
        clauses.append(f"undecided ({reason}) at {_listed(undecided)}")
    if incomparable:
        clauses.append(
            "not comparable, with more tokens than parallel generated (--parallel-sequences), at "
            + "; ".join(setting for setting, _ in incomparable)
        )
    return "; ".join(clauses)


def _counted_verdicts(points: Sequence[Point]) -> str:
    """As `_verdicts`, but undecided points are only counted."""
    better, worse, undecided, incomparable = _by_verdict(points)
    clauses = _decided(better, worse)
    clauses.append(f"undecided at {len(undecided)} of {len(points)}")
    clauses += [f"no comparison at {len(incomparable)}"] if incomparable else []
    return "; ".join(clauses)


def _decided(better: Sequence[Point], worse: Sequence[Point]) -> list[str]:
    return [
        f"better at {_listed(better)}" if better else "better nowhere",
        f"worse at {_listed(worse)}" if worse else "worse nowhere",
    ]


def _by_verdict(points: Sequence[Point]) -> list[list[Point]]:
    """Better, worse, undecided, and not comparable."""
    verdicts = ("better", "worse", "undecided", None)
    return [[point for point in points if point[1].verdict == verdict] for verdict in verdicts]


def _listed(points: Sequence[Point]) -> str:
    return ", ".join(f"{setting} ({matched.difference:+.3f})" for setting, matched in points)
