"""What the page of a run shows, as one compact JSON value: pure, from its summary and records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import convert

from evals.analysis.groups import RecordGroup, group_records, means
from evals.analysis.metrics import pass_curve, pass_rate
from evals.analysis.prompt_curves import prompt_curves
from evals.records.plan import AUTO, NESTED, PARALLEL, SEARCHES, STAGE_ONE, Plan
from evals.records.store import PromptRecord
from evals.report.page_trees import Texts, tree

__all__ = ["page_data"]

TEXT_BUDGET = 7_000_000  # characters
SEQUENCE_BUDGET = 60_000
FIRST_VIEW = range(4, 13)


def page_data(summary: dict[str, Any], records: Sequence[PromptRecord]) -> dict[str, Any]:
    """Summary, plots and trees.

    Args:
        summary: the content of `summary.json`.
        records: the lines of `results.jsonl`.
    """
    plan = convert(summary["config"]["plan"], Plan)
    groups = group_records(records, plan)
    return {
        "summary": summary,
        "pareto": _pareto(summary["rows"], groups),
        "entropy": _entropy(summary["entropy_pass_rate"], groups),
        "budget": _budget(groups, plan),
        **_trees(groups, plan),
    }


def _pareto(rows: Sequence[dict[str, Any]], groups: Sequence[RecordGroup]) -> dict[str, Any]:
    """Tokens per prompt and seed against Pass@k: a line over M for each method, θ and τ."""
    if any(row["pass_at_k"] is None for row in rows):
        return {"lines": [], "curves": []}
    lines: dict[tuple[Any, ...], list[list[Any]]] = {}
    for row in rows:
        if row["method"] not in NESTED:
            tokens = row["tokens_generated"] / (row["num_prompts"] * len(row["seeds"]))
            point = [round(tokens, 2), row["pass_at_k"], row["max_sequences"]]
            key = row["method"], row["name"], row["theta"], row["temperature"]
            lines.setdefault(key, []).append(point)
    for group in groups:
        if group.place.method in SEARCHES:
            place = group.place
            lines[place.method, place.name, None, place.temperature] = _search_line(group)
    return {
        "lines": [
            {
                "method": method,
                "name": name,
                "theta": theta,
                "temperature": temperature,
                "points": points,
            }
            for (method, name, theta, temperature), points in lines.items()
        ],
        "curves": [
            {"temperature": group.place.temperature, "points": _curve(group)}
            for group in groups
            if group.place.method == PARALLEL
        ],
    }


def _search_line(group: RecordGroup) -> list[list[Any]]:
    """A search with its first 1 … n sequences: what it would have been with smaller M."""
    (curves,) = prompt_curves(group.records)
    tokens, passes = curves.tokens.mean(axis=0), curves.passes.mean(axis=0)
    return [
        [round(float(tokens[k]), 2), round(float(passes[k]), 5), k] for k in range(1, len(tokens))
    ]


def _curve(group: RecordGroup) -> list[list[float]]:
    """Full Parallel's unbiased pass@k over its own tokens: a point for k = 1 … n."""
    curve = means(group, lambda record: pass_curve(record.correct)).mean(axis=0)
    tokens = means(group, lambda record: record.counts.generated).mean()
    step = tokens / (len(curve) - 1)
    return [[round(k * step, 2), round(float(curve[k]), 5), k] for k in range(1, len(curve))]


def _entropy(figures: dict[str, Any] | None, groups: Sequence[RecordGroup]) -> list[list[Any]]:
    """Peak entropy, pass rate, level and name of each prompt that the correlation is over."""
    if figures is None:
        return []
    threshold = None if figures["theta"] == AUTO else figures["theta"]
    place = (STAGE_ONE, figures["max_sequences"], threshold, figures["temperature"])
    group = next(g for g in groups if g.place[:4] == place)
    found = []
    for name, records in group.prompts.items():
        peaks = [record.peak_entropy for record in records if record.peak_entropy is not None]
        if peaks:
            rate = sum(pass_rate(record.correct) for record in records) / len(records)
            peak = sum(peaks) / len(peaks)
            found.append([round(peak, 4), round(rate, 4), records[0].level, name])
    return found


def _budget(groups: Sequence[RecordGroup], plan: Plan) -> dict[str, Any]:
    """Sequences per prompt by level, of stage one and with the extra ones, at the largest M."""
    most = max(plan.max_sequences)
    first: dict[str, RecordGroup] = {}
    for group in groups:
        if group.place.max_sequences == most or group.place.method == PARALLEL:
            first.setdefault(group.place.name, group)
    place = next((g.place for g in first.values() if g.place.method != PARALLEL), None)
    return {
        "max_sequences": most,
        "theta": (AUTO if place.is_adaptive else place.threshold) if place else None,
        "temperature": min(plan.temperatures),
        "methods": [
            {"method": group.place.method, "name": name, "levels": _spent(group, most)}
            for name, group in first.items()
        ],
    }


def _spent(group: RecordGroup, most: int) -> list[list[Any]]:
    """Level, sequences per prompt of stage one, and with the extra ones.

    Full Parallel may have been run with more than the largest M, for its curve; it counts as M.
    """
    levels: list[tuple[int | None, RecordGroup]] = [*group.levels()] or [(None, group)]
    if group.place.method == PARALLEL:
        return [[level, most, most] for level, _ in levels]
    return [
        [
            level,
            round(float(means(part, _num_stage_one).mean()), 3),
            round(float(means(part, lambda record: len(record.sequences)).mean()), 3),
        ]
        for level, part in levels
    ]


def _num_stage_one(record: PromptRecord) -> int:
    return sum(sequence.stage == 1 for sequence in record.sequences)


def _trees(groups: Sequence[RecordGroup], plan: Plan) -> dict[str, Any]:
    """The trees of the first seed; where they are too many, those of the largest M."""
    seed = min((record.seed for group in groups for record in group.records), default=0)
    chosen: dict[int, list[PromptRecord]] = {}
    left, texts = SEQUENCE_BUDGET, Texts()
    for index in sorted(range(len(groups)), key=lambda i: -groups[i].place.max_sequences):
        records = [record for record in groups[index].records if record.seed == seed]
        size = sum(len(record.sequences) for record in records)
        if records and (size <= left or not chosen):
            chosen[index] = records
            left -= size
    drawn = [chosen[index] for index in sorted(chosen)]
    prompts = {record.sample_id: record for records in drawn for record in records}
    numbers = {name: number for number, name in enumerate(sorted(prompts))}
    cells = [
        {
            "label": _label(records[0], plan),
            "method": records[0].method,
            "trees": {numbers[r.sample_id]: tree(r, texts) for r in records},
            "generated": {numbers[r.sample_id]: r.counts.generated for r in records},
        }
        for records in drawn
    ]
    shortened, limit = texts.shortened(TEXT_BUDGET)
    return {
        "prompts": [
            [name, prompts[name].level, texts_of(prompts[name])] for name in sorted(prompts)
        ],
        "cells": cells,
        "texts": shortened,
        "shortened_to": limit,
        "left_out": sum(bool(g.records) for g in groups) - len(drawn),
        "seed": seed,
        "first": _first_view(drawn, numbers),
    }


def texts_of(record: PromptRecord) -> str:
    """A prompt as text, its messages one after the other."""
    return "\n\n".join(str(message["content"]) for message in record.prompt)


def _label(record: PromptRecord, plan: Plan) -> str:
    parts = [record.cell.name, f"M = {record.max_sequences}"]
    threshold = record.entropy_histogram.threshold if record.entropy_histogram else record.threshold
    parts += [] if threshold is None else [f"θ = {threshold:g}"]
    parts += [f"τ = {record.temperature:g}"] if len(plan.every_temperature) > 1 else []
    return ", ".join(parts)


def _first_view(drawn: Sequence[Sequence[PromptRecord]], numbers: dict[str, int]) -> list[int]:
    """Method and prompt to begin with: a tree of several sequences, right and wrong ones."""

    def worth(place: tuple[int, PromptRecord]) -> tuple[bool, bool, bool, int]:
        record = place[1]
        size = len(record.sequences)
        branches = any(sequence.branch for sequence in record.sequences)
        mixed = any(record.correct) and not all(record.correct)
        return branches and size > 1, mixed, size in FIRST_VIEW, size

    places = [(index, record) for index, records in enumerate(drawn) for record in records]
    if not places:
        return [0, 0]
    index, record = max(places, key=worth)
    return [index, numbers[record.sample_id]]
