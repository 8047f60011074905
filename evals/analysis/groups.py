"""The records of a run by cell, prompt by prompt, and means over prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TypeVar

import numpy as np

from eager_sgl.signals import Floats
from evals.analysis.metrics import Estimate, estimate
from evals.records.plan import PARALLEL, STAGE_ONE, Cell, Plan
from evals.records.record import PromptRecord

__all__ = [
    "RecordGroup",
    "group_by",
    "group_records",
    "make_group",
    "mean_over_prompts",
    "mean_over_seeds",
    "prompt_means",
]

Key = TypeVar("Key", bound=Hashable)
Value = Callable[[PromptRecord], float] | Callable[[PromptRecord], Floats]


def group_by(
    records: Iterable[PromptRecord], key: Callable[[PromptRecord], Key]
) -> dict[Key, list[PromptRecord]]:
    """The records of each key, in the order in which the keys first occur."""
    groups: dict[Key, list[PromptRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


@dataclass(frozen=True)
class RecordGroup:
    """The records of a cell over all seeds, prompt by prompt: those of one row.

    Attributes:
        cell: that of the first seed.
        prompts: the records of each prompt, one per seed, by the prompt's id.
    """

    cell: Cell
    prompts: Mapping[str, tuple[PromptRecord, ...]]

    @cached_property
    def records(self) -> list[PromptRecord]:
        """All records, prompt by prompt."""
        return [record for records in self.prompts.values() for record in records]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds with a record."""
        return tuple(sorted({record.seed for record in self.records}))

    @property
    def num_seeds(self) -> int:
        """Runs of each prompt; the fewest where prompts differ."""
        return min(map(len, self.prompts.values()))

    @property
    def keys(self) -> set[tuple[str, int]]:
        """Prompt and seed of every record."""
        return {(record.sample_id, record.seed) for record in self.records}

    def shared_with(self, other: RecordGroup) -> tuple[RecordGroup, RecordGroup] | None:
        """Both groups with the prompts and seeds that both have; None without any."""
        keys = self.keys & other.keys
        return (self._restricted(keys), other._restricted(keys)) if keys else None

    def _restricted(self, keys: set[tuple[str, int]]) -> RecordGroup:
        return make_group([r for r in self.records if (r.sample_id, r.seed) in keys])

    def levels(self) -> list[tuple[int, RecordGroup]]:
        """Its prompts by level, the easiest first; none where the task has no levels."""
        levels = group_by((r for r in self.records if r.level is not None), _level)
        return [(level, make_group(levels[level])) for level in sorted(levels)]


def _level(record: PromptRecord) -> int:
    assert record.level is not None, f"{record.sample_id} has no level"
    return record.level


def make_group(records: Sequence[PromptRecord]) -> RecordGroup:
    """A group of at least one record."""
    ordered = sorted(records, key=lambda record: (record.sample_id, record.seed))
    prompts = {
        name: tuple(group) for name, group in groupby(ordered, lambda record: record.sample_id)
    }
    return RecordGroup(ordered[0].cell, prompts)


def group_records(records: Iterable[PromptRecord], plan: Plan) -> list[RecordGroup]:
    """By temperature, method, θ and M, each in the order of the plan."""
    groups = group_by(records, lambda record: record.cell.without_seed)
    methods = [PARALLEL, STAGE_ONE, *plan.methods]

    def order(cell: Cell) -> tuple[float, int, str, float, int]:
        rank, how = methods.index(cell.method), cell.stage_two or ""
        return cell.temperature, rank, how, cell.threshold or 0.0, cell.max_sequences

    return [make_group(groups[cell]) for cell in sorted(groups, key=order)]


def prompt_means(group: RecordGroup, value: Value) -> Floats:
    """Per prompt, the mean over its seeds of a value of a record, which may be an array."""
    prompts = group.prompts.values()
    return np.array([np.mean(np.array([value(r) for r in runs]), axis=0) for runs in prompts])


def mean_over_prompts(group: RecordGroup, value: Value) -> Estimate:
    """Mean over prompts of their means over seeds, and its standard error over prompts."""
    return estimate(prompt_means(group, value).tolist())


def mean_over_seeds(group: RecordGroup, value: Value) -> Estimate | None:
    """Mean over seeds of their means over prompts, and its standard error over seeds.

    None for a single seed.
    """
    seeds = group_by(group.records, lambda record: record.seed)
    if len(seeds) == 1:
        return None
    means = (np.mean([value(record) for record in seeds[seed]]) for seed in sorted(seeds))
    return estimate([float(mean) for mean in means])
