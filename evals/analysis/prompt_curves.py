"""The curves of a run's methods, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eager_sgl.signals import Floats
from evals.analysis.curves import Curve, curve_of
from evals.analysis.groups import group_by, make_group
from evals.records.plan import NESTED, Cell
from evals.records.record import PromptRecord

__all__ = ["PromptCurves", "curve_cell", "curves_over_seeds", "prompt_curves"]


@dataclass(frozen=True)
class PromptCurves:
    """A method's curves, averaged over the seeds of each prompt.

    Attributes:
        cell: that of all its records; see `curve_cell`.
        levels: of the prompts [P].
        tokens: float64 [P, n + 1], generated with 0 … n sequences.
        passes: float64 [P, n + 1], chance of a correct sequence among them.
        num_seeds: runs of each prompt that these are means over.
        is_shared: whether prompts share their tokens: then a column is not a number of sequences,
            but a moment that is the same for all prompts.
    """

    cell: Cell
    levels: tuple[int | None, ...]
    tokens: Floats
    passes: Floats
    num_seeds: int
    is_shared: bool = False

    @property
    def label(self) -> str:
        """The method, its θ, and whether its prompts share: its name at one temperature."""
        return self.cell.label("θ") + self._suffix

    @property
    def name(self) -> str:
        """The label with τ: its name among all curves of the run."""
        return self.cell.label("θτ") + self._suffix

    @property
    def _suffix(self) -> str:
        return ", shared" if self.is_shared else ""

    def at_levels(self, levels: Sequence[int | None]) -> PromptCurves:
        """The curves of the prompts of some levels; [None] keeps all."""
        if None in levels:
            return self
        rows = [row for row, level in enumerate(self.levels) if level in levels]
        kept = tuple(self.levels[row] for row in rows)
        return replace(self, levels=kept, tokens=self.tokens[rows], passes=self.passes[rows])


def prompt_curves(records: Iterable[PromptRecord]) -> list[PromptCurves]:
    """Of nested methods their curves, of others the points of a sweep over M; nested ones first."""
    groups = group_by(records, lambda record: curve_cell(record.cell))
    nested = [cell for cell in groups if cell.method in NESTED]
    swept = [cell for cell in groups if cell.method not in NESTED]
    return [curves_over_seeds(cell, groups[cell], _nested_curve) for cell in nested] + [
        curves_over_seeds(cell, groups[cell], _swept_curve) for cell in swept
    ]


def curve_cell(cell: Cell) -> Cell:
    """The key of a curve's cells: without the seed, and with M only where it is nested."""
    cell = cell.without_seed
    return cell if cell.method in NESTED else cell._replace(max_sequences=0)


def curves_over_seeds(
    cell: Cell,
    records: Sequence[PromptRecord],
    curve: Callable[[Sequence[PromptRecord]], Curve],
) -> PromptCurves:
    """The curves of one cell.

    Args:
        curve: from the records of a prompt and a seed, which differ in M alone.
    """
    prompts = [
        [curve(runs) for runs in group_by(prompt, lambda record: record.seed).values()]
        for prompt in make_group(records).prompts.values()
    ]
    length = max(len(curve.tokens) for curves in prompts for curve in curves)
    means = [np.mean([_padded(curve, length) for curve in curves], axis=0) for curves in prompts]
    levels = {record.sample_id: record.level for record in records}
    return PromptCurves(
        cell=cell,
        levels=tuple(levels[name] for name in sorted(levels)),
        tokens=np.array([mean[0] for mean in means]),
        passes=np.array([mean[1] for mean in means]),
        num_seeds=min(map(len, prompts)),
    )


def _nested_curve(records: Sequence[PromptRecord]) -> Curve:
    (record,) = records
    return curve_of(record)


def _swept_curve(records: Sequence[PromptRecord]) -> Curve:
    """A point per M, each of which was run."""
    ordered = sorted(records, key=lambda record: record.max_sequences)
    tokens = np.array([0.0, *(record.counts.generated for record in ordered)])
    return Curve(tokens, np.array([0.0, *(float(any(record.correct)) for record in ordered)]))


def _padded(curve: Curve, length: int) -> Floats:
    """Tokens and passes [2, length]; a search that ended early keeps its last values."""
    pairs = (curve.tokens, curve.passes)
    return np.array([np.pad(values, (0, length - len(values)), mode="edge") for values in pairs])
