"""What to open next: callables from the candidates of a frontier to a value for each.

The best value is opened first; −inf is never opened. Each returns values alone: what they rest on
are columns of the candidates, which the branch point of an opened one keeps.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.errors import PlugInError
from eager_sgl.search.frontier import NONE, Candidates, Floats, Reshaping, StepRecorder, candidates
from eager_sgl.search.redundancy import Divergent, Novel
from eager_sgl.tree import TokenTree

__all__ = [
    "PRIORITIES",
    "Best",
    "EarlyPeaks",
    "JointOverCost",
    "Priority",
    "find_priority",
    "usable_priority",
]


class Priority(Protocol):
    """Values of candidates, and the distributions that it wants to see them under."""

    @property
    def reshaping(self) -> Reshaping:
        """Applied to every step before the candidates are made."""

    def __call__(self, candidates: Candidates) -> Floats:
        """A value per candidate [n]; −inf where it must not be opened."""


@dataclass(frozen=True)
class EarlyPeaks:
    """ln H − position / scale, for the most likely untried token of a step.

    Attributes:
        scale: tokens that weigh as much as a factor e of the entropy; chains of about 130 tokens
            were studied with 40.
        min_probability: of the token.
    """

    scale: float = 40.0
    min_probability: float = 0.02
    reshaping: Reshaping = NONE

    def __call__(self, candidates: Candidates) -> Floats:
        with np.errstate(divide="ignore"):
            value = np.log(candidates.entropies) - candidates.positions / self.scale
        allowed = candidates.first_untried & (candidates.probabilities >= self.min_probability)
        return np.where(allowed, value, -np.inf)


@dataclass(frozen=True)
class JointOverCost:
    """ln of the probability of prefix and token, over the tokens that it will cost."""

    reshaping: Reshaping = NONE

    def __call__(self, candidates: Candidates) -> Floats:
        return np.asarray(candidates.joint_logprobs - np.log(candidates.remaining))


@dataclass(frozen=True)
class Best:
    """The highest value of one function of the candidates, among likely enough tokens.

    Attributes:
        value: a float per candidate [n].
        min_probability: of the token.
    """

    value: Callable[[Candidates], Floats]
    min_probability: float = 0.02
    reshaping: Reshaping = NONE

    def __call__(self, candidates: Candidates) -> Floats:
        allowed = candidates.probabilities >= self.min_probability
        return np.where(allowed, self.value(candidates), -np.inf)


PRIORITIES: dict[str, Priority] = {
    "early_peaks": EarlyPeaks(),
    "joint_cost": JointOverCost(),
    "flat_joint_cost": JointOverCost(Reshaping(temperature=1.5, min_p=0.05)),
    "entropy": Best(lambda c: c.entropies),
    "probability": Best(lambda c: c.probabilities),
    "varentropy": Best(lambda c: c.varentropies),
    "self_certainty": Best(lambda c: -c.uniform_kl),
    "novel_early_peaks": Novel(EarlyPeaks()),
    "novel_flat_joint_cost": Novel(JointOverCost(Reshaping(temperature=1.5, min_p=0.05))),
    "divergent_early_peaks": Divergent(EarlyPeaks()),
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


def usable_priority(priority: str | Priority) -> Priority:
    """A priority that has been tried on a small frontier and on an empty one.

    One of the user's is checked at every further call as well. A class stands for an object of it.

    Args:
        priority: a name as for `find_priority`, or a priority itself.

    Raises:
        ValueError: there is none of that name, or it does not value every candidate.
    """
    if isinstance(priority, str) and priority in PRIORITIES:
        return PRIORITIES[priority]
    found: Any = find_priority(priority) if isinstance(priority, str) else priority
    name = priority if isinstance(priority, str) else None
    if isinstance(found, type):
        with PlugIn("priority", found, (), name).blamed():
            found = found()
    checked = _Checked(found, PlugIn("priority", found, ("candidates",), name))
    if not hasattr(found, "reshaping"):
        raise PlugInError(
            f"{checked.plug_in} has no reshaping, the distribution that it wants to see "
            "candidates under; eager_sgl.search.priorities.Best makes a priority of a function"
        )
    with checked.plug_in.blamed():
        for probabilities in ([0.5, 0.25, 0.15, 0.1], [1.0, 0.0, 0.0, 0.0]):
            checked(candidates(_chain(probabilities), checked.reshaping))
    return checked


@dataclass(frozen=True)
class _Checked:
    """A priority of the user's, with all that it returns looked at."""

    priority: Priority
    plug_in: PlugIn

    @property
    def reshaping(self) -> Reshaping:
        """The priority's."""
        return self.priority.reshaping

    def __call__(self, candidates: Candidates) -> Floats:
        with self.plug_in.blamed():
            return self.plug_in.values(len(candidates), candidates)


def _chain(probabilities: list[float]) -> TokenTree:
    """A finished sequence whose every step has this distribution over four tokens."""
    token_ids, steps = (0, 0, 0), 3
    with np.errstate(divide="ignore"):
        logprobs = np.tile(np.log(np.array(probabilities, np.float32)), (steps, 1))
    ids = np.tile(np.arange(4, dtype=np.int32), (steps, 1))
    tree = TokenTree((0,), max_new_tokens=steps, policy=StepRecorder())
    top = TopLogprobs(ids, logprobs, temperature=1.0)
    tree.append(tree.open_root(), Generation(token_ids, "length", 1, 0, top=top), steps)
    return tree
