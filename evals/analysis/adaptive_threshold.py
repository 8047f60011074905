"""The adaptive θ of each cell of a run, rebuilt from what is stored with its prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl import AdaptiveThreshold
from evals.analysis.groups import group_by
from evals.records.record import PromptRecord

__all__ = ["AdaptiveTheta", "adaptive_theta", "restored"]


@dataclass(frozen=True)
class AdaptiveTheta:
    """An adaptive θ at the end of a run.

    Attributes:
        final: θ in nats that the next prompt would get, by seed.
        quantile: the quantile of all steps that `final` is, by seed.
        num_steps: monitored steps that it rests on, over all seeds.
        lowest, median, highest: of the θ that prompts branched at.
    """

    final: tuple[float, ...]
    quantile: tuple[float, ...]
    num_steps: int
    lowest: float
    median: float
    highest: float


def restored(records: Iterable[PromptRecord], quantile: float | None) -> AdaptiveThreshold:
    """The adaptive θ after these prompts, in any order."""
    adaptive_threshold = AdaptiveThreshold(quantile)
    for record in records:
        assert record.entropy_histogram is not None, (
            f"{record.sample_id}: no adaptive θ in {record.cell}"
        )
        adaptive_threshold.restore(record.entropy_histogram)
    return adaptive_threshold


def adaptive_theta(records: Sequence[PromptRecord], quantile: float | None) -> AdaptiveTheta | None:
    """Of the records of a row; None where θ is fixed."""
    used = [r.entropy_histogram.threshold for r in records if r.entropy_histogram is not None]
    if not used or not records[0].cell.is_adaptive:
        return None
    cells = group_by(records, lambda record: record.cell)
    thresholds = {cell: restored(group, quantile) for cell, group in cells.items()}
    return AdaptiveTheta(
        final=tuple(t.threshold(cell.max_sequences) for cell, t in thresholds.items()),
        quantile=tuple(t.quantile(cell.max_sequences) for cell, t in thresholds.items()),
        num_steps=sum(t.num_steps for t in thresholds.values()),
        lowest=min(used),
        median=float(np.median(used)),
        highest=max(used),
    )
