"""The figures of a run, and `summary.json`, which holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evals.analysis.metrics import Correlation
from evals.analysis.second_stages import StageTwoContrast
from evals.records.failures import Failure
from evals.records.header import RunHeader
from evals.records.plan import AUTO, Cell, Plan
from evals.report.columns import LEVEL_COLUMNS, ROW_COLUMNS
from evals.report.rows import Row

__all__ = ["EntropyPassRate", "Summary", "summary_json"]

Fields = Iterator[tuple[str, object]]


@dataclass(frozen=True)
class EntropyPassRate:
    """Peak entropy of a prompt against its pass rate, by EAGer-init at its largest M.

    Attributes:
        cell: that of the first seed.
        overall: over all prompts.
        levels: within each level.
    """

    cell: Cell
    overall: Correlation
    levels: tuple[tuple[int, Correlation], ...]


@dataclass(frozen=True)
class Summary:
    """A run in figures.

    Attributes:
        header: the content of `config.json`.
        plan: of the run.
        rows: by temperature, method, θ and M.
        missing: prompts without a result, by cell; empty for a complete run.
        num_failed: of these, those that have failed.
        failures: their causes; a prompt whose first stage failed lacks the methods of two stages
            as well.
        stage_two_contrasts: restart and resume at equal extra sequences, where both were run.
        savings: sentences on the cost and accuracy of methods beside Full Parallel's.
        findings: sentences on where a method beats Full Parallel at equal tokens, and where not.
        notes: how the figures were obtained, and what they do not say.
    """

    header: RunHeader
    plan: Plan
    rows: tuple[Row, ...]
    entropy_pass_rate: EntropyPassRate | None
    missing: Mapping[Cell, int] = field(default_factory=dict)
    num_failed: int = 0
    failures: tuple[Failure, ...] = ()
    stage_two_contrasts: tuple[StageTwoContrast, ...] = ()
    savings: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_missing(self) -> int:
        """Results that there are not."""
        return sum(self.missing.values())


def summary_json(summary: Summary) -> dict[str, Any]:
    """The content of `summary.json`."""
    entropy = summary.entropy_pass_rate
    return {
        **summary.header.to_json(),
        "partial": bool(summary.missing),
        "missing": [
            {**dict(_cell(cell)), "num_missing": number} for cell, number in summary.missing.items()
        ],
        "num_failed": summary.num_failed,
        "failures": [dict(_failure(failure)) for failure in summary.failures],
        "rows": [dict(_row(row)) for row in summary.rows],
        "entropy_pass_rate": entropy and dict(_entropy(entropy)),
        "stage_two_contrasts": [
            dict(_contrast(contrast)) for contrast in summary.stage_two_contrasts
        ],
        "savings": list(summary.savings),
        "findings": list(summary.findings),
        "notes": list(summary.notes),
    }


def _row(row: Row) -> Fields:
    for column in ROW_COLUMNS:
        yield from column.fields(row)
    levels = (
        [field for column in LEVEL_COLUMNS for field in column.fields(level)]
        for level in row.levels
    )
    yield "levels", [dict(fields) for fields in levels]


def _cell(cell: Cell) -> Fields:
    for name, value in cell._asdict().items():
        if name == "threshold":
            yield "theta", AUTO if cell.is_adaptive else value
        else:
            yield name, value


def _failure(failure: Failure) -> Fields:
    yield from _cell(failure.cell)
    for name in ("sample_id", "line", "stage", "error", "reason"):
        yield name, getattr(failure, name)


def _entropy(entropy: EntropyPassRate) -> Fields:
    yield from _correlation(entropy.overall)
    cell = dict(_cell(entropy.cell))
    for name in ("max_sequences", "theta", "temperature"):
        yield name, cell[name]
    levels = (
        [("level", level), *_correlation(correlation)] for level, correlation in entropy.levels
    )
    yield "levels", [dict(fields) for fields in levels]


def _correlation(correlation: Correlation) -> Fields:
    yield "spearman", correlation.spearman
    yield "p_value", correlation.p_value
    yield "n", correlation.count


def _contrast(contrast: StageTwoContrast) -> Fields:
    cell = dict(_cell(contrast.cell))
    for name in ("method", "max_sequences", "theta", "temperature"):
        yield name, cell[name]
    yield from ((name, value) for name, value in asdict(contrast).items() if name != "cell")
