"""Cut samples: the tokens at which they would have ended, and those that do not vote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl import Cutting
from eager_sgl.signals import Floats
from eager_sgl.voting.cutting import ROUNDING, group_confidences, top_share_floor
from evals.laboratory.draws import Draws
from evals.laboratory.samples import Samples

__all__ = ["Cuts", "calibrated_floor", "cut", "filtered"]


@dataclass(frozen=True)
class Cuts:
    """The samples of each order under a rule that cuts.

    Attributes:
        lengths: tokens [R, M] of each sample, those of cut ones up to the cut.
        is_below: whether a sample is below the floor [R, M], so that it does not vote.
        is_cut: whether it ended there [R, M]: not a first one.
        num_warmups: number of first samples, whose lengths are whole; they vote until all of them
            have ended. The others start after them.
    """

    lengths: NDArray[np.int64]
    is_below: NDArray[np.bool_]
    is_cut: NDArray[np.bool_]
    num_warmups: int


def calibrated_floor(prompts: Iterable[Samples], cutting: Cutting) -> float:
    """The floor that the share `keep` of all samples of some prompts reaches."""
    lowest = np.concatenate([samples.lowest(cutting.window) for samples in prompts])
    return top_share_floor(lowest.tolist(), cutting.keep)


def cut(draws: Draws, cutting: Cutting) -> Cuts:
    """The cuts by the floor of each order's first samples, or by a fixed one."""
    number = min(cutting.num_warmups, draws.max_sequences)
    floors = _floors(draws, cutting)
    groups = [group_confidences(s.confidences, cutting.window) for s in draws.samples.recorded]
    # The first group below a floor: the first at which the lowest so far is.
    firsts = [np.searchsorted(-np.minimum.accumulate(g), -floors, side="right") for g in groups]
    is_below = np.array([first < len(g) for first, g in zip(firsts, groups, strict=True)])
    ends = np.where(is_below, np.array(firsts) + cutting.window, draws.samples.lengths[:, None])
    rows = np.arange(len(draws.order))[:, None]
    lengths = ends[draws.order, rows]
    lengths[:, :number] = draws.lengths[:, :number]
    is_below = is_below[draws.order, rows]
    return Cuts(lengths, is_below, is_below & (np.arange(draws.max_sequences) >= number), number)


def _floors(draws: Draws, cutting: Cutting) -> Floats:
    """The floor of each order [R]; −∞ where it is never known."""
    number = len(draws.order)
    if cutting.fixed is not None:
        return np.full(number, cutting.fixed)
    if cutting.warmup > draws.max_sequences:
        return np.full(number, -np.inf)
    lowest = draws.samples.lowest(cutting.window)
    warmups = np.sort(lowest[draws.order[:, : cutting.warmup]], axis=1)
    return np.asarray(warmups[:, _rank(cutting.warmup, cutting.keep)] * (1 - ROUNDING))


def filtered(
    draws: Draws, keep: float, window: int, num_votes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether a sample is below the floor that the share `keep` of an order's first ones reaches.

    DeepConf's filter of sequences that have all run to their ends.

    Args:
        num_votes: [R], number of the first ones.
    """
    lowest = draws.samples.lowest(window)[draws.order]
    limit = draws.max_sequences
    counted = np.where(np.arange(limit) < num_votes[:, None], lowest, np.inf)
    ranks = np.array([_rank(number, keep) for number in range(limit + 1)])[num_votes]
    return np.asarray(lowest < np.sort(counted, axis=1)[np.arange(len(lowest)), ranks][:, None])


def _rank(number: int, keep: float) -> int:
    """Index of the floor among as many values in rising order."""
    return int(top_share_floor(range(number), keep)) if number else 0
