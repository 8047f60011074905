"""The curves of a run's methods, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evals.analysis.curves import curve_of
from evals.records.plan import NESTED, Cell
from evals.records.store import PromptRecord

__all__ = ["PromptCurves", "curve_of_seeds", "curve_place", "prompt_curves"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PromptCurves:
    """A method's curves, each prompt's averaged over its seeds.

    Attributes:
        place: what its cells have in common.
        levels: of the prompts [P].
        tokens: float64 [P, n + 1], generated with 0 … n sequences.
        passes: float64 [P, n + 1], chance of a correct one among them.
        num_seeds: runs of each prompt that these are means over.
        is_shared: whether the columns are not numbers of sequences, but what prompts that share
            their tokens have at the same moment.
    """

    place: Cell
    levels: tuple[int | None, ...]
    tokens: Floats
    passes: Floats
    num_seeds: int
    is_shared: bool = False

    @property
    def label(self) -> str:
        """The method, its θ, and whether its prompts share."""
        theta = f" θ={self.place.theta}" if self.place.theta else ""
        return f"{self.place.name}{theta}{', shared' * self.is_shared}"

    @property
    def name(self) -> str:
        """The label with τ: what it differs in from others of the run."""
        method, comma, shared = self.label.partition(",")
        return f"{method} τ={self.place.temperature:g}{comma}{shared}"

    def at_levels(self, levels: Sequence[int | None]) -> PromptCurves:
        """Only the prompts of some levels; [None] keeps all."""
        if None in levels:
            return self
        rows = [row for row, each in enumerate(self.levels) if each in levels]
        kept = tuple(self.levels[row] for row in rows)
        return replace(self, levels=kept, tokens=self.tokens[rows], passes=self.passes[rows])


def prompt_curves(records: Iterable[PromptRecord]) -> list[PromptCurves]:
    """Of all methods that have one: a nested method's own, or the points of a sweep over M."""
    nested: dict[Cell, list[PromptRecord]] = {}
    swept: dict[Cell, list[PromptRecord]] = {}
    for record in records:
        groups = nested if record.method in NESTED else swept
        groups.setdefault(curve_place(record.cell), []).append(record)
    found = [curve_of_seeds(place, group, _own_curve) for place, group in nested.items()]
    return found + [curve_of_seeds(place, group, _swept_curve) for place, group in swept.items()]


def curve_place(cell: Cell) -> Cell:
    """What the cells of one curve have in common: not the seed, and M only where it is nested."""
    place = cell._replace(seed=0)
    return place if cell.method in NESTED else place._replace(max_sequences=0)


CurveOf = Callable[[Sequence[PromptRecord]], tuple[Floats, Floats]]


def curve_of_seeds(place: Cell, records: Sequence[PromptRecord], curve: CurveOf) -> PromptCurves:
    """The curves of one place.

    Args:
        curve: tokens and passes from the records of a prompt and a seed, which differ in M alone.
    """
    prompts: dict[str, dict[int, list[PromptRecord]]] = {}
    for record in records:
        prompts.setdefault(record.sample_id, {}).setdefault(record.seed, []).append(record)
    names = sorted(prompts)
    each = [[curve(group) for group in prompts[name].values()] for name in names]
    length = max(len(tokens) for curves in each for tokens, _ in curves)
    means = [np.mean([_padded(pair, length) for pair in curves], axis=0) for curves in each]
    first = {record.sample_id: record.level for record in records}
    return PromptCurves(
        place=place,
        levels=tuple(first[name] for name in names),
        tokens=np.array([mean[0] for mean in means]),
        passes=np.array([mean[1] for mean in means]),
        num_seeds=min(map(len, each)),
    )


def _own_curve(records: Sequence[PromptRecord]) -> tuple[Floats, Floats]:
    (record,) = records
    curve = curve_of(record)
    return curve.tokens, curve.passes


def _swept_curve(records: Sequence[PromptRecord]) -> tuple[Floats, Floats]:
    """A point per M, which is a run of its own."""
    ordered = sorted(records, key=lambda record: record.max_sequences)
    tokens = np.array([0.0, *(record.counts.generated for record in ordered)])
    return tokens, np.array([0.0, *(float(any(record.correct)) for record in ordered)])


def _padded(pair: tuple[Floats, Floats], length: int) -> Floats:
    """A search that ended early stays where it was."""
    return np.array([np.pad(each, (0, length - len(each)), mode="edge") for each in pair])
