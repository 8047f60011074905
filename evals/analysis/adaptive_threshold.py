"""The adaptive θ of each cell of a run, put together from what its prompts have stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl.adaptive_threshold import AdaptiveThreshold
from evals.records.plan import Cell
from evals.records.store import PromptRecord

__all__ = ["AdaptiveTheta", "adaptive_theta", "restored"]


@dataclass(frozen=True)
class AdaptiveTheta:
    """What became of a adaptive θ.

    Attributes:
        final: θ in nats that the next prompt would get, by seed.
        quantile: of all steps that it is, by seed.
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
    """As prompts that have finished left it, in any order."""
    adaptive_threshold = AdaptiveThreshold(quantile)
    for record in records:
        assert record.entropy_histogram is not None, (
            f"{record.sample_id}: no adaptive θ in {record.cell}"
        )
        adaptive_threshold.restore(record.entropy_histogram)
    return adaptive_threshold


def adaptive_theta(records: Sequence[PromptRecord], quantile: float | None) -> AdaptiveTheta | None:
    """Of the records of a row; None where θ was fixed."""
    used = [
        record.entropy_histogram.threshold
        for record in records
        if record.entropy_histogram is not None
    ]
    if not used or not records[0].cell.is_adaptive:
        return None
    cells: dict[Cell, list[PromptRecord]] = {}
    for record in records:
        cells.setdefault(record.cell, []).append(record)
    found = {cell: restored(own, quantile) for cell, own in cells.items()}
    return AdaptiveTheta(
        final=tuple(r.threshold(cell.max_sequences) for cell, r in found.items()),
        quantile=tuple(r.quantile(cell.max_sequences) for cell, r in found.items()),
        num_steps=sum(r.num_steps for r in found.values()),
        lowest=min(used),
        median=float(np.median(used)),
        highest=max(used),
    )
