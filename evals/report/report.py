"""From the records of a run to its summary: the rows of `summary.json` and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

from eager_sgl.budget.reallocation import RULES
from eager_sgl.core import TokenCounts
from evals.analysis.adaptive_threshold import adaptive_theta
from evals.analysis.curves import Curve, curve_of
from evals.analysis.groups import RecordGroup, group_records, make_group, mean, means, over_seeds
from evals.analysis.judged import count_judged
from evals.analysis.matching import MatchedParallel, match_parallel
from evals.analysis.metrics import (
    Correlation,
    coverage,
    majority_at_k,
    majority_correct,
    pass_curve,
    pass_rate,
    rank_correlation,
)
from evals.analysis.second_stages import contrast_second_stages, contrast_sentence
from evals.records.failures import Failure, failed_per_cell, failure_note
from evals.records.header import RunHeader
from evals.records.plan import INDEPENDENT, NESTED, PARALLEL, STAGE_ONE, Cell, Plan
from evals.records.store import PromptRecord
from evals.report.findings import ending_notes, findings, notes
from evals.report.paper import paper_row
from evals.report.summary import (
    REALISED,
    UNBIASED,
    EntropyPassRate,
    InexactWalks,
    Level,
    Row,
    StageTwoTotals,
    Summary,
)
from evals.report.table import render_table

__all__ = ["render_table", "summarise_run"]


@dataclass(frozen=True)
class _Part:
    """What k of a record's sequences come to; of all of them where k is None.

    Attributes:
        curves: of all records that it will be asked about with a k, by prompt and seed.
    """

    k: int | None = None
    curves: Mapping[tuple[str, int], Curve] = field(default_factory=dict)

    def chance(self, record: PromptRecord) -> float:
        """That one is correct."""
        if self.k is None:
            return coverage(record.correct)
        return float(self._curve(record).passes[self.size(record)])

    def tokens(self, record: PromptRecord) -> float:
        """Generated for them."""
        if self.k is None:
            return record.counts.generated
        return float(self._curve(record).tokens[self.size(record)])

    def _curve(self, record: PromptRecord) -> Curve:
        return self.curves[record.sample_id, record.seed]

    def size(self, record: PromptRecord) -> int:
        """How many they are: a search may have ended before."""
        number = len(record.sequences)
        return number if self.k is None else min(self.k, number)

    def majority(self, record: PromptRecord) -> float:
        """Whether, or how likely, the majority of them is correct."""
        k = self.size(record)
        if record.method in INDEPENDENT and self.k is not None:
            return majority_at_k(record.votes, record.correct, k)
        return float(majority_correct(record.votes[:k], record.correct))

    def pass_rate(self, record: PromptRecord) -> float:
        """Their mean correctness."""
        k = len(record.sequences) if record.method in INDEPENDENT else self.size(record)
        return pass_rate(record.correct[:k])


ALL = _Part()


def summarise_run(
    header: RunHeader,
    records: Sequence[PromptRecord],
    plan: Plan,
    seconds: Mapping[Cell, float],
    failures: Sequence[Failure] = (),
) -> Summary:
    """The figures of a run, also of one that is not complete.

    Args:
        header: what the run is, as in `config.json`.
        records: all that there are, in any order.
        seconds: wall time of each cell.
        failures: of what has no result.
    """
    groups = group_records(records, plan)
    parallel = {
        group.place.temperature: group for group in groups if group.place.method == PARALLEL
    }
    missing = plan.missing(record.cell for record in records)
    failed = failed_per_cell(failures, plan, {record.key for record in records})
    waiting = {cell: n for cell, n in missing.items() if n > failed.get(cell, 0)}
    rows: list[Row] = []
    for group in groups:
        if group.place.method in NESTED:
            rows += _nested_rows(group, plan, seconds, parallel.get(group.place.temperature))
        elif group.place.method in RULES and _is_partial(group, waiting):
            # Prompts that get nothing more are written first, and full EAGer's are the solved ones.
            rows.append(_row(group, plan, seconds, None))
        else:
            rows.append(_row(group, plan, seconds, parallel.get(group.place.temperature)))
        if group.place.is_adaptive:
            quantile = header.config.adaptive_quantile
            rows[-1] = replace(rows[-1], adaptive_threshold=adaptive_theta(group.records, quantile))
    whole = [group for group in groups if not _is_partial(group, waiting)]
    has_labels = header.config.has_labels
    contrasts = contrast_second_stages(whole) if has_labels else ()
    if not has_labels:
        rows = [row.unlabelled() for row in rows]
    rows = [
        replace(
            row,
            paper=paper_row(header, row.name, row.max_sequences, row.temperature),
            num_failed=_num_failed(row, failed),
        )
        for row in rows
    ]
    return Summary(
        header=header,
        rows=tuple(rows),
        entropy_pass_rate=_entropy_pass_rate(groups) if has_labels else None,
        missing=missing,
        num_failed=sum(failed.values()),
        failures=tuple(failures),
        stage_two_contrasts=contrasts,
        findings=(*findings(rows), *map(contrast_sentence, contrasts)),
        notes=(
            *([failure_note(failures, failed)] if failures else []),
            *notes(rows, missing, waiting, plan),
            *ending_notes(rows, header.config.search),
        ),
    )


def _is_partial(group: RecordGroup, waiting: Mapping[Cell, int]) -> bool:
    """Whether prompts of it are still to come."""
    return any(cell._replace(seed=group.place.seed) == group.place for cell in waiting)


def _num_failed(row: Row, failed: Mapping[Cell, int]) -> int:
    """Of the cells that the row's sequences were generated in."""
    return sum(
        number
        for cell, number in failed.items()
        if (cell.name, cell.temperature) == (row.name, row.temperature)
        and (cell.method in NESTED or cell[1:3] == (row.max_sequences, row.threshold))
    )


def _row(
    group: RecordGroup, plan: Plan, seconds: Mapping[Cell, float], parallel: RecordGroup | None
) -> Row:
    """Of what was generated; matched with Full Parallel where that was run."""
    method, max_sequences, threshold, temperature, *_ = group.place
    cells = [group.place._replace(seed=seed) for seed in group.seeds]
    measured = [seconds[cell] for cell in cells if cell in seconds]
    return Row(
        method=method,
        max_sequences=max_sequences,
        threshold=threshold,
        temperature=temperature,
        seeds=group.seeds,
        num_prompts=len(group.prompts),
        estimator=UNBIASED if method in INDEPENDENT else REALISED,
        estimated=False,
        coverage=mean(group, ALL.chance),
        coverage_seeds=over_seeds(group, ALL.chance),
        cons=mean(group, ALL.majority) if plan.can_vote else None,
        pass_rate=mean(group, ALL.pass_rate),
        num_sequences=sum(len(record.sequences) for record in group.records),
        counts=reduce(add, (record.counts for record in group.records), TokenCounts()),
        wall_seconds=sum(measured) if measured else None,
        stage_two=_stage_two(group),
        matched=_match(group, parallel, ALL),
        levels=tuple(_level(number, each, parallel, ALL) for number, each in group.levels()),
        judged=count_judged(group.records),
        inexact=_inexact(group.records),
    )


def _inexact(records: Iterable[PromptRecord]) -> InexactWalks | None:
    steps = [record.inexact_steps for record in records if record.inexact_steps is not None]
    return InexactWalks(sum(steps), sum(map(bool, steps)), len(steps)) if steps else None


def _stage_two(group: RecordGroup) -> StageTwoTotals | None:
    found = [record.stage_two for record in group.records if record.stage_two is not None]
    if not found:
        return None
    used = sum(each.extra_used for each in found)
    gained = mean(group, ALL.chance).value - mean(group, _stage_one_coverage).value
    return StageTwoTotals(
        how=found[0].mode,
        eligible=sum(each.eligible for each in found),
        extra_granted=sum(each.extra_granted for each in found),
        extra_used=used,
        tokens_per_extra=sum(each.generated for each in found) / used if used else None,
        pass_gained=gained,
    )


def _stage_one_coverage(record: PromptRecord) -> float:
    return coverage([sequence.correct for sequence in record.sequences if sequence.stage == 1])


def _match(group: RecordGroup, parallel: RecordGroup | None, part: _Part) -> MatchedParallel | None:
    """At equal tokens, over the prompts and seeds that both have."""
    if parallel is None:
        return None
    both = {(r.sample_id, r.seed) for r in group.records}
    both &= {(r.sample_id, r.seed) for r in parallel.records}
    if not both:
        return None
    group, parallel = group.restricted(both), parallel.restricted(both)
    return match_parallel(
        values=means(group, part.chance),
        tokens=means(group, part.tokens),
        curves=means(parallel, lambda record: pass_curve(record.correct)),
        parallel_tokens=means(parallel, ALL.tokens),
        num_seeds=min(map(len, group.prompts.values())),
    )


def _level(number: int, group: RecordGroup, parallel: RecordGroup | None, part: _Part) -> Level:
    return Level(
        level=number,
        num_prompts=len(group.prompts),
        coverage=mean(group, part.chance),
        pass_rate=mean(group, part.pass_rate),
        num_sequences=sum(map(part.size, group.records)),
        tokens_generated=round(sum(map(part.tokens, group.records))),
        matched=_match(group, parallel, part),
    )


def _nested_rows(
    group: RecordGroup, plan: Plan, seconds: Mapping[Cell, float], parallel: RecordGroup | None
) -> list[Row]:
    """A method at each M of the plan, all from the sequences that it was run with."""
    if group.place.method == PARALLEL:
        parallel = None
    full = _row(group, plan, seconds, parallel)
    curves = {(record.sample_id, record.seed): curve_of(record) for record in group.records}
    return [
        full
        if k == full.max_sequences
        else _estimated(full, group, plan, parallel, _Part(k, curves))
        for k in sorted(plan.max_sequences)
    ]


def _estimated(
    full: Row, group: RecordGroup, plan: Plan, parallel: RecordGroup | None, part: _Part
) -> Row:
    """With k sequences: figures and tokens of the method's curve; seconds in proportion to them."""
    assert part.k is not None, "an estimate is of some of the sequences"
    tokens = round(float(means(group, part.tokens).mean()) * len(group.records))
    share = tokens / full.counts.generated
    return replace(
        full,
        max_sequences=part.k,
        estimated=True,
        coverage=mean(group, part.chance),
        coverage_seeds=over_seeds(group, part.chance),
        cons=mean(group, part.majority) if plan.can_vote else None,
        pass_rate=mean(group, part.pass_rate),
        num_sequences=sum(map(part.size, group.records)),
        counts=TokenCounts(generated=tokens, unique=tokens, naive=tokens),
        wall_seconds=None if full.wall_seconds is None else full.wall_seconds * share,
        matched=_match(group, parallel, part),
        levels=tuple(_level(number, each, parallel, part) for number, each in group.levels()),
        judged=None,
        inexact=None,
    )


def _entropy_pass_rate(groups: Iterable[RecordGroup]) -> EntropyPassRate | None:
    """Of EAGer-init at its largest M, and there at the lowest θ and temperature."""
    found = [group for group in groups if group.place.method == STAGE_ONE]
    if not found:
        return None
    group = max(found, key=lambda group: group.place.max_sequences)
    records = [record for record in group.records if record.peak_entropy is not None]
    if not records:
        return None
    group = make_group(records)

    def correlation(part: RecordGroup) -> Correlation:
        peaks = means(part, lambda record: record.peak_entropy).tolist()
        return rank_correlation(peaks, means(part, ALL.pass_rate).tolist())

    return EntropyPassRate(
        max_sequences=group.place.max_sequences,
        threshold=group.place.threshold,
        temperature=group.place.temperature,
        overall=correlation(group),
        levels=tuple((level, correlation(part)) for level, part in group.levels()),
    )
