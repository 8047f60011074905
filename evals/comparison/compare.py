"""All comparisons of a run, and `compare.json`, which holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.analysis.groups import group_by
from evals.analysis.prompt_curves import PromptCurves, curve_cell, prompt_curves
from evals.comparison.budgets import AtBudget, at_budgets
from evals.comparison.findings import budget_findings, needed_findings
from evals.comparison.needed import Needed, Pace, needed_everywhere
from evals.comparison.shared import shared_curves
from evals.comparison.verifier import AtFirstCorrect, at_first_correct
from evals.comparison.votes import MethodVotes, votes_of_methods
from evals.records.files import StoreError
from evals.records.plan import PARALLEL, STOPPABLE, Cell
from evals.records.record import PromptRecord

__all__ = ["Comparison", "MeanCurve", "compare", "comparison_json"]


@dataclass(frozen=True)
class MeanCurve:
    """Mean over prompts of a method's tokens and passes with 0 … n sequences."""

    method: str
    label: str
    temperature: float
    is_shared: bool
    tokens: list[float]
    passes: list[float]


@dataclass(frozen=True)
class Comparison:
    """All comparisons of a run.

    Attributes:
        needed: tokens to Full Parallel's pass@k.
        tokens_per_second: the pace of each method.
        budgets: searches at the tokens of EAGer-init.
        findings: sentences on where a method does not win.
        verifier: searches that a verifier ends.
        votes: Pass Rate and Cons.
    """

    needed: tuple[Needed, ...]
    tokens_per_second: Pace
    budgets: tuple[AtBudget, ...]
    findings: tuple[str, ...]
    verifier: tuple[AtFirstCorrect, ...]
    votes: tuple[MethodVotes, ...]
    curves: tuple[MeanCurve, ...]


def compare(
    records: Sequence[PromptRecord],
    temperature: float,
    width: int,
    seconds: Mapping[Cell, float],
    *,
    can_vote: bool = True,
    has_shared: bool = False,
) -> Comparison:
    """Compare the methods of a run.

    Args:
        temperature: of the Full Parallel that sets the targets.
        width: paths that a search opens at once.
        seconds: wall time of each cell.
        can_vote: whether answers can agree; without votes there is no uncertainty to share by.
        has_shared: whether the searches of the run shared their tokens, so that they are no part
            of longer ones.

    Raises:
        StoreError: the run has no Full Parallel at that temperature.
    """
    alone = [r for r in records if not (has_shared and r.method in STOPPABLE)]
    curves = prompt_curves(alone) + (shared_curves(records, width) if can_vote else [])
    pace = _pace(curves, records, seconds)
    largest = max((r.max_sequences for r in records if r.method != PARALLEL), default=None)
    needed = tuple(needed_everywhere(curves, *_parallels(curves, temperature), pace))
    budgets = tuple(at_budgets(curves, records, width))
    return Comparison(
        needed=needed,
        tokens_per_second=pace,
        budgets=budgets,
        findings=(*needed_findings(needed), *budget_findings(budgets)),
        verifier=tuple(at_first_correct(alone, width, largest)),
        votes=tuple(votes_of_methods(records, largest)),
        curves=tuple(map(_mean_curve, curves)),
    )


def _parallels(
    curves: Sequence[PromptCurves], temperature: float
) -> tuple[PromptCurves, list[PromptCurves]]:
    """Full Parallel at a temperature, and at all; curves of shared tokens are the last."""
    parallels = [curve for curve in curves if curve.cell.method == PARALLEL]
    for parallel in parallels:
        if parallel.cell.temperature == temperature:
            return parallel, parallels
    raise StoreError(f"the run has no parallel at temperature {temperature:g} to compare with")


def _pace(
    curves: Sequence[PromptCurves],
    records: Iterable[PromptRecord],
    seconds: Mapping[Cell, float],
) -> dict[str, float]:
    """Generated tokens per second of wall time.

    Of a cell with and without sharing, the pace is that of the first curve: a shared one that was
    computed from a run without a ledger was not run.
    """
    names = {curve.cell: curve.name for curve in reversed(curves)}
    pace = {}
    for cell, group in group_by(records, lambda record: curve_cell(record.cell)).items():
        spent = sum(seconds[cell] for cell in dict.fromkeys(record.cell for record in group))
        if spent > 0:
            pace[names[cell]] = sum(record.counts.generated for record in group) / spent
    return pace


def _mean_curve(curves: PromptCurves) -> MeanCurve:
    return MeanCurve(
        method=curves.cell.method,
        label=curves.label,
        temperature=curves.cell.temperature,
        is_shared=curves.is_shared,
        tokens=curves.tokens.mean(axis=0).tolist(),
        passes=curves.passes.mean(axis=0).tolist(),
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The content of `compare.json`."""
    content = asdict(comparison)
    for row in content["verifier"]:
        row["pass"] = row.pop("coverage")
    return content
