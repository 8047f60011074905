"""The records of a run in the groups that make a row, and means over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.analysis.metrics import Estimate, estimate
from evals.records.plan import PARALLEL, STAGE_ONE, Cell, Plan
from evals.records.store import PromptRecord

__all__ = ["RecordGroup", "group_records", "make_group", "mean", "means", "over_seeds"]

Value = Callable[[PromptRecord], Any]  # a number or an array


@dataclass(frozen=True)
class RecordGroup:
    """Records that make one row: a cell's, of all seeds, prompt by prompt.

    Attributes:
        place: the cell of the first seed.
        prompts: the records of each prompt, one per seed, by the prompt's name.
    """

    place: Cell
    prompts: Mapping[str, tuple[PromptRecord, ...]]

    @cached_property
    def records(self) -> list[PromptRecord]:
        """All of them, prompt by prompt."""
        return [record for records in self.prompts.values() for record in records]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that any record has."""
        return tuple(sorted({record.seed for record in self.records}))

    def restricted(self, keys: Iterable[tuple[str, int]]) -> RecordGroup:
        """With the records of these prompts and seeds only."""
        keys = set(keys)
        return make_group([r for r in self.records if (r.sample_id, r.seed) in keys])

    def levels(self) -> list[tuple[int, RecordGroup]]:
        """Its prompts by level, the easiest first; none where the task has no levels."""
        levels = sorted({r.level for r in self.records if r.level is not None})
        return [
            (level, make_group([r for r in self.records if r.level == level])) for level in levels
        ]


def make_group(records: Sequence[PromptRecord]) -> RecordGroup:
    """A group of records, of which there is at least one."""
    ordered = sorted(records, key=lambda record: (record.sample_id, record.seed))
    prompts = {
        name: tuple(group) for name, group in groupby(ordered, lambda record: record.sample_id)
    }
    return RecordGroup(ordered[0].cell, prompts)


def group_records(records: Iterable[PromptRecord], plan: Plan) -> list[RecordGroup]:
    """By temperature, method, θ and M, each in the order of the plan."""
    found: dict[Cell, list[PromptRecord]] = {}
    for record in records:
        found.setdefault(record.cell._replace(seed=0), []).append(record)
    methods = [PARALLEL, STAGE_ONE, *plan.methods]

    def order(place: Cell) -> tuple[float, int, str, float, int]:
        threshold = place.threshold or 0.0
        rank, how = methods.index(place.method), place.stage_two or ""
        return place.temperature, rank, how, threshold, place.max_sequences

    return [make_group(found[place]) for place in sorted(found, key=order)]


def means(group: RecordGroup, value: Value) -> NDArray[np.float64]:
    """Per prompt, the mean over its seeds of a value (a number or an array) of a record."""
    return np.array([np.mean([value(r) for r in rs], axis=0) for rs in group.prompts.values()])


def mean(group: RecordGroup, value: Value) -> Estimate:
    """Mean over prompts of their means over seeds, and its standard error over prompts."""
    return estimate(means(group, value).tolist())


def over_seeds(group: RecordGroup, value: Value) -> Estimate | None:
    """Mean over seeds of their means over prompts, and its standard error over seeds."""
    if len(group.seeds) == 1:
        return None
    found = [np.mean([value(r) for r in group.records if r.seed == seed]) for seed in group.seeds]
    return estimate([float(mean) for mean in found])
