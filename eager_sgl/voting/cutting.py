"""Cutting: sequences in which the model was unsure for a while end early, and do not vote.

The rule of DeepConf (Fu et al. 2025, arXiv 2508.15260). The confidence of a step is the mean of
−ln p of its K most likely tokens: high where the distribution is peaked. The *group confidence* of
a step is the mean over it and the W − 1 steps before; a sequence is cut at the first step from the
W-th on whose group confidence is below a floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eager_sgl.config import require, require_whole
from eager_sgl.signals import Floats

__all__ = [
    "Confident",
    "Cutting",
    "group_confidences",
    "is_below",
    "lowest_group_confidence",
    "top_share_floor",
    "until_unknown",
]


ROUNDING = 1e-3
"""Relative margin of a floor that comes from sequences. Others repeat their low steps, on a prefix
that they share, where the server may compute slightly other numbers."""


class Confident(Protocol):
    """A sequence with the confidences of its steps."""

    @property
    def confidences(self) -> Items[float]:
        """Of all steps, in nats."""

    @property
    def finish_reason(self) -> str:
        """How it ended; "abort" of an unfinished one."""


def until_unknown(confidences: Items[float]) -> Items[float]:
    """Without the steps from the first one on whose confidence is not known, such as a probe's."""
    unknown = np.flatnonzero(np.isnan(np.asarray(confidences, np.float64)))
    return confidences[: int(unknown[0])] if len(unknown) else confidences


def group_confidences(confidences: Items[float], window: int) -> Floats:
    """Means over `window` steps in a row, of the W-th step and all after it.

    Args:
        confidences: of the n steps of a sequence, in nats.

    Returns:
        float64 [n − W + 1]; empty where the sequence is shorter than the window.
    """
    sums = np.concatenate(([0.0], np.cumsum(np.asarray(confidences, np.float64))))
    return np.asarray((sums[window:] - sums[: max(0, len(sums) - window)]) / window)


def lowest_group_confidence(confidences: Items[float], window: int) -> float:
    """The lowest group confidence of a sequence, in nats.

    That of a sequence shorter than the window is its mean, as in DeepConf's code.

    Args:
        confidences: of its steps, in nats.

    Raises:
        ValueError: it has no confidences, or that of a step is not known.
    """
    if not len(confidences) or math.isnan(sum(confidences)):
        raise ValueError(
            "the confidence of a step is not known; give columns=('confidences',) to the method"
        )
    groups = group_confidences(confidences, min(window, len(confidences)))
    return float(groups.min())


def is_below(confidences: Items[float], window: int, floor: float) -> bool:
    """Whether a sequence is cut at a floor: one shorter than the window is not."""
    return bool((group_confidences(confidences, window) < floor).any())


def top_share_floor(lowest: Items[float], keep: float) -> float:
    """The highest floor that a share of some sequences reaches, at least.

    Args:
        lowest: the lowest group confidences of the n sequences, at least one.
        keep: the share; ⌈keep · n⌉ sequences reach the floor, and more where some are equal.
            (DeepConf interpolates between the two ranks next to the share.)
    """
    rank = max(1, math.ceil(round(keep * len(lowest), 9)))
    return sorted(lowest, reverse=True)[rank - 1]


@dataclass(frozen=True)
class Cutting:
    """When the sequences of a vote are cut.

    The floor comes from the prompt itself: its first sequences run to their ends. Those of them
    that are below it do not vote either, so that all votes are of sequences that reach it.

    Attributes:
        window: W, in steps. DeepConf's 2,048 is for chains of tens of thousands of tokens.
        keep: share of the first sequences that reach the floor: DeepConf-low is .1, -high .9.
        warmup: number of the first sequences.
        fixed: a floor in nats from a calibration, in place of that of the first sequences.
    """

    window: int = 2048
    keep: float = 0.9
    warmup: int = 16
    fixed: float | None = None

    def __post_init__(self) -> None:
        require_whole("window", self.window, 1)
        require(0 < self.keep <= 1, "keep", self.keep, "a share in (0, 1]")
        require_whole("warmup", self.warmup, 1)
        if self.fixed is not None:
            require(0 <= self.fixed < math.inf, "fixed", self.fixed, "a number of nats, at least 0")

    @property
    def num_warmups(self) -> int:
        """Number of sequences that are not cut."""
        return self.warmup if self.fixed is None else 0

    def require_room(self, max_sequences: int, name: str = "cutting.warmup") -> None:
        """Require that a vote of so many sequences has some that may be cut.

        Args:
            name: of `warmup` in the error.

        Raises:
            ValueError: the first ones are all.
        """
        require(
            self.num_warmups < max_sequences,
            name,
            self.warmup,
            f"below max_sequences, which is {max_sequences}",
        )

    def lowest(self, confidences: Items[float]) -> float:
        """The lowest group confidence of a sequence, `until_unknown`."""
        return lowest_group_confidence(until_unknown(confidences), self.window)

    def floor(self, warmups: Items[float]) -> float | None:
        """The floor, in nats; None where it is not known yet.

        Args:
            warmups: lowest group confidences of the prompt's first sequences, in their order;
                those beyond `warmup` have no effect.
        """
        if self.fixed is not None:
            return self.fixed
        if len(warmups) < self.warmup:
            return None
        return top_share_floor(warmups[: self.warmup], self.keep) * (1 - ROUNDING)

    def is_cut(self, confidences: Items[float], floor: float | None) -> bool:
        """Whether a sequence, `until_unknown`, is cut at a floor; never without a floor."""
        return floor is not None and is_below(until_unknown(confidences), self.window, floor)

    def cut(self, sequences: Items[Confident]) -> list[bool]:
        """Whether each of a prompt's sequences, in the order of their starts, was cut.

        One that ran to its end below the floor counts as cut.
        """
        first = sequences[: self.num_warmups]
        has_floor = all(sequence.finish_reason != "abort" for sequence in first)
        lowest = [self.lowest(sequence.confidences) for sequence in first if has_floor]
        floor = self.floor(lowest)
        return [s.finish_reason == "cut" or self.is_cut(s.confidences, floor) for s in sequences]
