"""From the records of a run to its summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eager_sgl import RULES
from evals.analysis.adaptive_threshold import adaptive_theta
from evals.analysis.figures_at_k import ALL_SEQUENCES
from evals.analysis.groups import (
    RecordGroup,
    group_records,
    make_group,
    prompt_means,
)
from evals.analysis.metrics import Correlation, rank_correlation
from evals.analysis.second_stages import contrast_second_stages, contrast_sentence
from evals.records.failures import Failure, failed_per_cell, failure_note
from evals.records.header import RunHeader
from evals.records.plan import NESTED, PARALLEL, STAGE_ONE, Cell, Plan
from evals.records.record import PromptRecord
from evals.report.findings import findings
from evals.report.notes import ending_notes, notes
from evals.report.paper import paper_row
from evals.report.rows import Row, nested_rows, row_of
from evals.report.savings import savings
from evals.report.summary import EntropyPassRate, Summary

__all__ = ["summarise_run"]


@dataclass(frozen=True)
class _Gaps:
    """The missing results of a run.

    Attributes:
        missing: prompts without a result, by cell.
        failed: of these, those that have failed.
    """

    missing: Mapping[Cell, int]
    failed: Mapping[Cell, int]

    @property
    def waiting(self) -> dict[Cell, int]:
        """The missing prompts of the cells in which some have not been tried."""
        return {cell: n for cell, n in self.missing.items() if n > self.failed.get(cell, 0)}

    def has_waiting(self, group: RecordGroup) -> bool:
        """Whether prompts of a group have not been tried."""
        return any(cell.without_seed == group.cell.without_seed for cell in self.waiting)

    def num_failed(self, row: Row) -> int:
        """Failed prompts of the cells that the row's sequences were generated in."""
        return sum(
            number
            for cell, number in self.failed.items()
            if (cell.name, cell.temperature) == (row.cell.name, row.cell.temperature)
            and (cell.method in NESTED or cell[1:3] == row.cell[1:3])
        )


def summarise_run(
    header: RunHeader,
    records: Sequence[PromptRecord],
    plan: Plan,
    seconds: Mapping[Cell, float],
    failures: Sequence[Failure] = (),
) -> Summary:
    """The figures of a run, which need not be complete.

    Args:
        header: the content of `config.json`.
        records: all results, in any order.
        seconds: wall time of each cell.
        failures: of prompts without a result.
    """
    failed = failed_per_cell(failures, plan, {record.key for record in records})
    gaps = _Gaps(plan.missing(record.cell for record in records), failed)
    groups = group_records(records, plan)
    rows = _rows(groups, header, plan, seconds, gaps)
    has_labels = header.config.has_labels
    if not has_labels:
        rows = [row.without_labels() for row in rows]
    complete = [group for group in groups if not gaps.has_waiting(group)]
    contrasts = contrast_second_stages(complete) if has_labels else ()
    return Summary(
        header=header,
        plan=plan,
        rows=tuple(rows),
        entropy_pass_rate=_entropy_pass_rate(groups) if has_labels else None,
        missing=gaps.missing,
        num_failed=sum(failed.values()),
        failures=tuple(failures),
        stage_two_contrasts=contrasts,
        savings=tuple(savings(rows)),
        findings=(*findings(rows), *map(contrast_sentence, contrasts)),
        notes=(*_failure_notes(failures, failed), *_notes(rows, gaps, header)),
    )


def _failure_notes(failures: Sequence[Failure], failed: Mapping[Cell, int]) -> Iterator[str]:
    if failures:
        yield failure_note(failures, failed)


def _notes(rows: Sequence[Row], gaps: _Gaps, header: RunHeader) -> Iterator[str]:
    yield from notes(rows, gaps.missing, header.config.plan, is_partial=bool(gaps.waiting))
    yield from ending_notes(rows, header.config.search)


def _rows(
    groups: Sequence[RecordGroup],
    header: RunHeader,
    plan: Plan,
    seconds: Mapping[Cell, float],
    gaps: _Gaps,
) -> list[Row]:
    """The rows of all groups, matched with Full Parallel at the same temperature."""
    parallels = {group.cell.temperature: group for group in groups if group.cell.method == PARALLEL}
    rows: list[Row] = []
    for group in groups:
        parallel = parallels.get(group.cell.temperature)
        if group.cell.method in NESTED:
            rows += nested_rows(group, plan, seconds, parallel)
            continue
        if group.cell.method in RULES and gaps.has_waiting(group):
            # Prompts without extra sequences are written first: of full EAGer, the solved ones.
            parallel = None
        adaptive = adaptive_theta(group.records, header.config.adaptive_quantile)
        rows.append(replace(row_of(group, plan, seconds, parallel), adaptive=adaptive))
    return [
        replace(
            row,
            paper=paper_row(header, row.cell.name, row.cell.max_sequences, row.cell.temperature),
            num_failed=gaps.num_failed(row),
        )
        for row in rows
    ]


def _entropy_pass_rate(groups: Iterable[RecordGroup]) -> EntropyPassRate | None:
    """Of EAGer-init at its largest M, and there at the lowest temperature and θ."""
    stage_one = [group for group in groups if group.cell.method == STAGE_ONE]
    if not stage_one:
        return None
    largest = max(stage_one, key=lambda group: group.cell.max_sequences)
    records = [record for record in largest.records if record.peak_entropy is not None]
    if not records:
        return None
    group = make_group(records)
    levels = tuple((level, _correlation(part)) for level, part in group.levels())
    return EntropyPassRate(group.cell, _correlation(group), levels)


def _correlation(group: RecordGroup) -> Correlation:
    peaks, rates = prompt_means(group, _peak), prompt_means(group, ALL_SEQUENCES.pass_rate)
    return rank_correlation(peaks.tolist(), rates.tolist())


def _peak(record: PromptRecord) -> float:
    assert record.peak_entropy is not None, f"{record.sample_id} has no entropies"
    return record.peak_entropy
