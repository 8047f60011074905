"""The three plots of a run as points: the page and the PNG files draw them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evals.analysis.groups import RecordGroup, group_records, prompt_means
from evals.analysis.metrics import Correlation, pass_curve, pass_rate
from evals.analysis.prompt_curves import prompt_curves
from evals.records.plan import AUTO, NESTED, PARALLEL, SEARCHES, Cell, Plan
from evals.records.record import PromptRecord
from evals.report.rows import Row
from evals.report.summary import EntropyPassRate, Summary

__all__ = ["Pareto", "ParetoLine", "Plots", "plots_of"]

Theta = float | str | None


class ParetoPoint(NamedTuple):
    """Tokens per prompt and seed, Pass@k, and k."""

    tokens: float
    coverage: float
    k: int


@dataclass(frozen=True)
class ParetoLine:
    """A method over M, at one θ and τ."""

    method: str
    name: str
    theta: Theta
    temperature: float
    points: list[ParetoPoint]


@dataclass(frozen=True)
class ParallelCurve:
    """Full Parallel's unbiased Pass@k over its tokens: a point for k = 1 … n."""

    temperature: float
    points: list[ParetoPoint]


@dataclass(frozen=True)
class Pareto:
    """Tokens against Pass@k."""

    lines: list[ParetoLine]
    curves: list[ParallelCurve]


class EntropyPoint(NamedTuple):
    """A prompt of EAGer-init."""

    peak_entropy: float
    pass_rate: float
    level: int | None
    sample_id: str


class LevelBudget(NamedTuple):
    """Sequences per prompt of a level (None for all prompts): of stage one, and in all."""

    level: int | None
    stage_one: float
    in_all: float


@dataclass(frozen=True)
class MethodBudget:
    """Where the sequences of a method went."""

    method: str
    name: str
    levels: list[LevelBudget]


@dataclass(frozen=True)
class Budget:
    """Sequences per prompt at the largest M."""

    max_sequences: int
    theta: Theta
    temperature: float
    methods: list[MethodBudget]


@dataclass(frozen=True)
class Plots:
    """The points of all plots.

    Attributes:
        correlation: of the entropy plot, over all prompts.
    """

    pareto: Pareto
    entropy: list[EntropyPoint]
    correlation: Correlation | None
    budget: Budget


def plots_of(summary: Summary, records: Sequence[PromptRecord]) -> Plots:
    """The points of a run's plots."""
    groups = group_records(records, summary.plan)
    entropy = summary.entropy_pass_rate
    return Plots(
        pareto=_pareto(summary.rows, groups),
        entropy=[*_entropy(entropy, groups)] if entropy else [],
        correlation=entropy.overall if entropy else None,
        budget=_budget(groups, summary.plan),
    )


def _theta(cell: Cell) -> Theta:
    return AUTO if cell.is_adaptive else cell.threshold


def _pareto(rows: Sequence[Row], groups: Sequence[RecordGroup]) -> Pareto:
    """Empty without labels."""
    if any(row.coverage is None for row in rows):
        return Pareto([], [])
    points: dict[Cell, list[ParetoPoint]] = {}
    for row in rows:
        if row.cell.method not in NESTED:
            cell = row.cell.without_seed._replace(max_sequences=0)
            points.setdefault(cell, []).append(_point(row))
    for group in groups:
        if group.cell.method in SEARCHES:
            points[group.cell] = _search_points(group)
    lines = [
        ParetoLine(cell.method, cell.name, _theta(cell), cell.temperature, of_cell)
        for cell, of_cell in points.items()
    ]
    parallels = (group for group in groups if group.cell.method == PARALLEL)
    curves = [ParallelCurve(group.cell.temperature, _parallel_points(group)) for group in parallels]
    return Pareto(lines, curves)


def _point(row: Row) -> ParetoPoint:
    assert row.coverage is not None, f"{row.cell} has no labels"
    tokens = row.counts.generated / (row.num_prompts * len(row.seeds))
    return ParetoPoint(round(tokens, 2), row.coverage.value, row.cell.max_sequences)


def _search_points(group: RecordGroup) -> list[ParetoPoint]:
    """A search with its first 1 … n sequences: the same search with smaller M."""
    (curves,) = prompt_curves(group.records)
    tokens, passes = curves.tokens.mean(axis=0), curves.passes.mean(axis=0)
    return [
        ParetoPoint(round(float(tokens[k]), 2), round(float(passes[k]), 5), k)
        for k in range(1, len(tokens))
    ]


def _parallel_points(group: RecordGroup) -> list[ParetoPoint]:
    curve = prompt_means(group, lambda record: pass_curve(record.correct)).mean(axis=0)
    tokens = prompt_means(group, lambda record: record.counts.generated).mean()
    step = float(tokens) / (len(curve) - 1)
    return [
        ParetoPoint(round(k * step, 2), round(float(curve[k]), 5), k) for k in range(1, len(curve))
    ]


def _entropy(entropy: EntropyPassRate, groups: Sequence[RecordGroup]) -> Iterator[EntropyPoint]:
    """The prompts that the correlation is over."""
    cell = entropy.cell.without_seed
    group = next(group for group in groups if group.cell.without_seed == cell)
    for name, records in group.prompts.items():
        peaks = [record.peak_entropy for record in records if record.peak_entropy is not None]
        if peaks:
            rate = sum(pass_rate(record.correct) for record in records) / len(records)
            peak = sum(peaks) / len(peaks)
            yield EntropyPoint(round(peak, 4), round(rate, 4), records[0].level, name)


def _budget(groups: Sequence[RecordGroup], plan: Plan) -> Budget:
    """By level, at the first θ and τ."""
    largest = max(plan.max_sequences)
    first: dict[str, RecordGroup] = {}
    for group in groups:
        if group.cell.max_sequences == largest or group.cell.method == PARALLEL:
            first.setdefault(group.cell.name, group)
    cells = [group.cell for group in first.values() if group.cell.method != PARALLEL]
    return Budget(
        max_sequences=largest,
        theta=_theta(cells[0]) if cells else None,
        temperature=min(plan.temperatures),
        methods=[
            MethodBudget(group.cell.method, name, [*_spent(group, largest)])
            for name, group in first.items()
        ],
    )


def _spent(group: RecordGroup, max_sequences: int) -> Iterator[LevelBudget]:
    """Full Parallel, which may have been run with more than M for its curve, counts as M."""
    levels: list[tuple[int | None, RecordGroup]] = [*group.levels()] or [(None, group)]
    for level, part in levels:
        if group.cell.method == PARALLEL:
            yield LevelBudget(level, max_sequences, max_sequences)
            continue
        stage_one = prompt_means(part, _num_stage_one).mean()
        in_all = prompt_means(part, lambda record: len(record.sequences)).mean()
        yield LevelBudget(level, round(float(stage_one), 3), round(float(in_all), 3))


def _num_stage_one(record: PromptRecord) -> int:
    return sum(sequence.stage == 1 for sequence in record.sequences)
