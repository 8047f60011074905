"""The rows of a report: the figures of one method at one M, θ and temperature.

Where a run has several seeds, values are first averaged over the seeds of a prompt, and means and
standard errors are then taken over prompts; tokens and sequences are added up over prompts and
seeds. A figure that is added here is shown by its entry in `columns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from eager_sgl import TokenCounts
from evals.analysis.adaptive_threshold import AdaptiveTheta
from evals.analysis.beside import BesideParallel, beside_parallel
from evals.analysis.figures_at_k import ALL_SEQUENCES, FiguresAtK, figures_at_k
from evals.analysis.groups import (
    RecordGroup,
    mean_over_prompts,
    mean_over_seeds,
    prompt_means,
)
from evals.analysis.judged import JudgedCounts, count_judged
from evals.analysis.matching import MatchedParallel, match_parallel
from evals.analysis.metrics import Estimate, pass_curve
from evals.records.plan import INDEPENDENT, PARALLEL, Cell, Plan
from evals.report.paper import PaperRow
from evals.report.totals import (
    InexactSamples,
    StageTwoTotals,
    VoteTotals,
    inexact_of,
    stage_two_of,
    votes_of,
)

__all__ = [
    "Figures",
    "LevelRow",
    "Row",
    "nested_rows",
    "row_of",
]

REALISED, UNBIASED = "realised", "unbiased"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures that a row has over all prompts and within each level.

    Attributes:
        coverage: Pass@M; None without labels.
        pass_rate: mean correctness of a prompt's sequences; None without labels.
        num_sequences: #S.
        counts: tokens and requests; where they are estimated only the tokens.
        matched: Full Parallel at the same tokens; None if it was not run or there are no labels.
    """

    num_prompts: int
    coverage: Estimate | None
    pass_rate: Estimate | None
    num_sequences: int
    counts: TokenCounts
    matched: MatchedParallel | None = None

    @property
    def matched_pass(self) -> Estimate | None:
        """Pass@k of Full Parallel at the same tokens."""
        return self.matched.pass_at_k if self.matched else None


@dataclass(frozen=True, kw_only=True)
class LevelRow(Figures):
    """The prompts of a row that are of one level of difficulty."""

    level: int


@dataclass(frozen=True, kw_only=True)
class Row(Figures):
    """One method at one M, θ and temperature, over all prompts and seeds.

    Attributes:
        cell: that of the first seed, with the M of the row.
        estimator: of `coverage`: "realised", whether one of the row's sequences is correct, or
            "unbiased", the chance that one of M independent sequences is.
        estimated: whether the row follows from the sequences of a run with a larger M.
        coverage_seeds: Pass@M, mean and standard error over seeds; None for one seed.
        cons: Cons@M, the share of prompts whose majority answer is correct; None without votes.
        wall_seconds: None where they were not measured; estimated in proportion to the tokens.
        stage_two: None for a method without one.
        beside: Full Parallel with M sequences; None where the row is Full Parallel's, or is
            estimated, or has no labels.
        judged: judgements by outcome; None where the row is estimated.
        paper: the figures of the paper; None where it has none of the same.
        adaptive: an adaptive θ at the end of the run; None where θ is fixed.
        inexact: None for a method without samples through the tree, and where the row is estimated.
        votes: None for a method that is no vote, where the row is estimated, and where a line is of
            an earlier version.
        num_failed: results that failed for good and are in no figure.
    """

    cell: Cell
    seeds: tuple[int, ...]
    estimator: str
    estimated: bool = False
    coverage_seeds: Estimate | None
    cons: Estimate | None
    wall_seconds: float | None
    stage_two: StageTwoTotals | None = None
    levels: tuple[LevelRow, ...] = ()
    beside: BesideParallel | None = None
    judged: JudgedCounts | None = None
    paper: PaperRow | None = None
    adaptive: AdaptiveTheta | None = None
    inexact: InexactSamples | None = None
    votes: VoteTotals | None = None
    num_failed: int = 0

    def without_labels(self) -> Row:
        """The row without the figures that are undefined where no answer is known."""
        levels = (
            replace(level, coverage=None, pass_rate=None, matched=None) for level in self.levels
        )
        return replace(
            self,
            coverage=None,
            coverage_seeds=None,
            cons=None,
            pass_rate=None,
            matched=None,
            beside=None,
            levels=tuple(levels),
        )

    @property
    def cached_share(self) -> float:
        """Share of the sent prompt tokens that the radix tree served."""
        return self.counts.cached / self.counts.prompt if self.counts.prompt else 0.0


def row_of(
    group: RecordGroup, plan: Plan, seconds: Mapping[Cell, float], parallel: RecordGroup | None
) -> Row:
    """The row of what was generated.

    Args:
        seconds: wall time of each cell.
        parallel: Full Parallel to match the row with; None for a row that is not matched.
    """
    cells = [group.cell._replace(seed=seed) for seed in group.seeds]
    measured = [seconds[cell] for cell in cells if cell in seconds]
    at_m = ALL_SEQUENCES
    return Row(
        cell=group.cell,
        seeds=group.seeds,
        num_prompts=len(group.prompts),
        estimator=UNBIASED if group.cell.method in INDEPENDENT else REALISED,
        coverage=mean_over_prompts(group, at_m.coverage),
        coverage_seeds=mean_over_seeds(group, at_m.coverage),
        cons=mean_over_prompts(group, at_m.majority) if plan.can_vote else None,
        pass_rate=mean_over_prompts(group, at_m.pass_rate),
        num_sequences=sum(map(at_m.num_sequences, group.records)),
        counts=reduce(add, (record.counts for record in group.records)),
        wall_seconds=sum(measured) if measured else None,
        stage_two=stage_two_of(group),
        matched=_match(group, parallel, at_m),
        beside=_beside(group, parallel, plan),
        levels=_levels(group, parallel, at_m),
        judged=count_judged(group.records),
        inexact=inexact_of(group.records),
        votes=votes_of(group.records),
    )


def _beside(group: RecordGroup, parallel: RecordGroup | None, plan: Plan) -> BesideParallel | None:
    if parallel is None or group.cell.method == PARALLEL:
        return None
    return beside_parallel(group, parallel, can_vote=plan.can_vote)


def nested_rows(
    group: RecordGroup, plan: Plan, seconds: Mapping[Cell, float], parallel: RecordGroup | None
) -> list[Row]:
    """The rows of a method at each M of the plan, all from the sequences that it was run with."""
    if group.cell.method == PARALLEL:
        parallel = None
    full = row_of(group, plan, seconds, parallel)
    return [
        full if k == full.cell.max_sequences else _estimated_row(full, group, plan, parallel, k)
        for k in sorted(plan.max_sequences)
    ]


def _estimated_row(
    full: Row, group: RecordGroup, plan: Plan, parallel: RecordGroup | None, k: int
) -> Row:
    """The row with k sequences: tokens of the method's curve, and seconds in proportion to them."""
    at_k = figures_at_k(k, group.records)
    tokens = round(float(prompt_means(group, at_k.tokens).mean()) * len(group.records))
    share = tokens / full.counts.generated
    return replace(
        full,
        cell=full.cell._replace(max_sequences=k),
        estimated=True,
        coverage=mean_over_prompts(group, at_k.coverage),
        coverage_seeds=mean_over_seeds(group, at_k.coverage),
        cons=mean_over_prompts(group, at_k.majority) if plan.can_vote else None,
        pass_rate=mean_over_prompts(group, at_k.pass_rate),
        num_sequences=sum(map(at_k.num_sequences, group.records)),
        counts=TokenCounts(generated=tokens, unique=tokens, naive=tokens),
        wall_seconds=None if full.wall_seconds is None else full.wall_seconds * share,
        matched=_match(group, parallel, at_k),
        levels=_levels(group, parallel, at_k),
        beside=None,
        judged=None,
        inexact=None,
        votes=None,
    )


def _levels(
    group: RecordGroup, parallel: RecordGroup | None, at_k: FiguresAtK
) -> tuple[LevelRow, ...]:
    return tuple(
        LevelRow(
            level=number,
            num_prompts=len(level.prompts),
            coverage=mean_over_prompts(level, at_k.coverage),
            pass_rate=mean_over_prompts(level, at_k.pass_rate),
            num_sequences=sum(map(at_k.num_sequences, level.records)),
            counts=TokenCounts(generated=round(sum(map(at_k.tokens, level.records)))),
            matched=_match(level, parallel, at_k),
        )
        for number, level in group.levels()
    )


def _match(
    group: RecordGroup, parallel: RecordGroup | None, at_k: FiguresAtK
) -> MatchedParallel | None:
    """At equal tokens, over the prompts and seeds that both have."""
    shared = parallel and group.shared_with(parallel)
    if not shared:
        return None
    group, parallel = shared
    return match_parallel(
        values=prompt_means(group, at_k.coverage),
        tokens=prompt_means(group, at_k.tokens),
        curves=prompt_means(parallel, lambda record: pass_curve(record.correct)),
        parallel_tokens=prompt_means(parallel, ALL_SEQUENCES.tokens),
        num_seeds=group.num_seeds,
    )
