"""What to open next: callables from the candidates of a frontier to a value for each.

The best value is opened first; −inf is never opened. Each returns values alone: what they rest on
are columns of the candidates, which the branch point of an opened one keeps.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from eager_sgl.consequence import Consequential, Novel
from eager_sgl.frontier import NONE, Candidates, Flattening, Floats

__all__ = ["PRIORITIES", "Best", "EarlyPeaks", "JointOverCost", "Priority", "find_priority"]


class Priority(Protocol):
    """Values of candidates, and the distributions that it wants to see them under."""

    @property
    def flattening(self) -> Flattening:
        """Applied to every step before the candidates are made."""

    def __call__(self, candidates: Candidates) -> Floats:
        """A value per candidate [n]; −inf where it must not be opened."""


@dataclass(frozen=True)
class EarlyPeaks:
    """ln H − position / scale, for the most likely untried token of a step.

    Attributes:
        scale: tokens that weigh as much as a factor e of the entropy; chains of about 130 tokens
            were studied with 40.
        least_probability: of the token.
    """

    scale: float = 40.0
    least_probability: float = 0.02
    flattening: Flattening = NONE

    def __call__(self, candidates: Candidates) -> Floats:
        with np.errstate(divide="ignore"):
            value = np.log(candidates.entropies) - candidates.positions / self.scale
        allowed = candidates.first_untried & (candidates.probabilities >= self.least_probability)
        return np.where(allowed, value, -np.inf)


@dataclass(frozen=True)
class JointOverCost:
    """ln of the probability of prefix and token, over the tokens that it will cost."""

    flattening: Flattening = NONE

    def __call__(self, candidates: Candidates) -> Floats:
        return np.asarray(candidates.joint_logprobs - np.log(candidates.remaining))


@dataclass(frozen=True)
class Best:
    """The highest value of one function of the candidates, among likely enough tokens.

    Attributes:
        value: a float per candidate [n].
        least_probability: of the token.
    """

    value: Callable[[Candidates], Floats]
    least_probability: float = 0.02
    flattening: Flattening = NONE

    def __call__(self, candidates: Candidates) -> Floats:
        allowed = candidates.probabilities >= self.least_probability
        return np.where(allowed, self.value(candidates), -np.inf)


PRIORITIES: dict[str, Priority] = {
    "early_peaks": EarlyPeaks(),
    "joint_cost": JointOverCost(),
    "flat_joint_cost": JointOverCost(Flattening(temperature=1.5, min_ratio=0.05)),
    "entropy": Best(lambda c: c.entropies),
    "probability": Best(lambda c: c.probabilities),
    "varentropy": Best(lambda c: c.varentropies),
    "self_certainty": Best(lambda c: -c.uniform_kl),
    "novel_early_peaks": Novel(EarlyPeaks()),
    "novel_flat_joint_cost": Novel(JointOverCost(Flattening(temperature=1.5, min_ratio=0.05))),
    "consequential_early_peaks": Consequential(EarlyPeaks()),
}
"""By name: DTS goes by varentropy; self-certainty is KL(uniform ‖ p), and low where unsure."""


def find_priority(name: str) -> Priority:
    """One of `PRIORITIES`, or `module:object`.

    Raises:
        ValueError: there is none.
    """
    if name in PRIORITIES:
        return PRIORITIES[name]
    module, _, attribute = name.partition(":")
    try:
        return cast(Priority, getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"unknown priority {name!r}; there is {', '.join(PRIORITIES)}, or module:object"
        ) from error
