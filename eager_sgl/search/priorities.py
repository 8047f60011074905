"""Priorities by name, and the user's.

To add one: a class or function here, and a name in `PRIORITIES`; `--priority`, its help text and
the tests of every priority take it from there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.errors import PlugInError
from eager_sgl.search.frontier import (
    NO_RESHAPING,
    Candidates,
    Priority,
    Reshaping,
    StepRecorder,
    candidates,
)
from eager_sgl.search.redundancy import Divergent, Novel
from eager_sgl.signals import Floats
from eager_sgl.tree import TokenTree

__all__ = [
    "PRIORITIES",
    "QUICK",
    "Best",
    "EarlyPeaks",
    "JointOverCost",
    "Priority",
    "find_priority",
    "usable_priority",
]


@dataclass(frozen=True)
class EarlyPeaks:
    """ln H − position / scale, for the most likely untried token of a step.

    Attributes:
        scale: number of tokens that weigh as much as a factor e of the entropy; chains of about 130
            tokens were studied with 40.
        min_probability: of the token at temperature 1.
        reshaping: see `Priority`; the value does not depend on it.
    """

    scale: float = 40.0
    min_probability: float = 0.02
    reshaping: Reshaping = NO_RESHAPING

    def __call__(self, candidates: Candidates) -> Floats:
        with np.errstate(divide="ignore"):
            value = np.log(candidates.entropies) - candidates.positions / self.scale
        allowed = candidates.first_untried & (candidates.probabilities >= self.min_probability)
        return np.where(allowed, value, -np.inf)


@dataclass(frozen=True)
class JointOverCost:
    """ln of the joint probability of prefix and token per token that the rest is expected to cost.

    Attributes:
        reshaping: of the distributions that the joint probability is taken from.
    """

    reshaping: Reshaping = NO_RESHAPING

    def __call__(self, candidates: Candidates) -> Floats:
        return np.asarray(candidates.joint_logprobs - np.log(candidates.remaining))


@dataclass(frozen=True)
class Best:
    """A function of the candidates as a priority; unlikely tokens are never opened.

    Attributes:
        value: maps the candidates to a float per candidate [n].
        min_probability: of the token at temperature 1.
        reshaping: of the distributions behind the candidates' `logprobs` and `joint_logprobs`.
    """

    value: Callable[[Candidates], Floats]
    min_probability: float = 0.02
    reshaping: Reshaping = NO_RESHAPING

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
"""Entropy is in nats and varentropy, the criterion of DTS, in nats²; "self_certainty" opens where
self-certainty, KL(uniform ‖ p), is low."""

QUICK = frozenset(
    name
    for name, priority in PRIORITIES.items()
    if isinstance(priority, EarlyPeaks | JointOverCost | Best)
)
"""Names of the priorities that take little more time than the candidates themselves."""


def find_priority(name: str) -> Priority:
    """The priority of a name in `PRIORITIES`, or of an import path `module:object`.

    Raises:
        ValueError: the name is unknown, or the import fails.
    """
    if name in PRIORITIES:
        return PRIORITIES[name]
    module, _, attribute = name.partition(":")
    try:
        return cast(Priority, getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"unknown priority {name!r}; choose from {', '.join(PRIORITIES)}, or module:object"
        ) from error


def usable_priority(priority: str | Priority) -> Priority:
    """A priority that is known to value every candidate.

    A user's priority is tried on a small frontier and on an empty one, and checked at every further
    call. A class stands for its instance without arguments.

    Args:
        priority: a name or import path as for `find_priority`, or a priority itself.

    Raises:
        ValueError: the name is unknown, or the priority does not value every candidate.
    """
    if isinstance(priority, str) and priority in PRIORITIES:
        return PRIORITIES[priority]
    unchecked: Any = find_priority(priority) if isinstance(priority, str) else priority
    name = priority if isinstance(priority, str) else None
    if isinstance(unchecked, type):
        with PlugIn("priority", unchecked, (), name).blamed():
            unchecked = unchecked()
    checked = _Checked(unchecked, PlugIn("priority", unchecked, ("candidates",), name))
    if not hasattr(unchecked, "reshaping"):
        raise PlugInError(
            f"{checked.plug_in} has no reshaping; set it to eager_sgl.search.NO_RESHAPING, or make "
            "a priority of a function by eager_sgl.search.Best(function)"
        )
    with checked.plug_in.blamed():
        for probabilities in ([0.5, 0.25, 0.15, 0.1], [1.0, 0.0, 0.0, 0.0]):
            checked(candidates(_chain(probabilities), checked.reshaping))
    return checked


@dataclass(frozen=True)
class _Checked:
    """A user's priority whose values are checked at every call."""

    priority: Priority
    plug_in: PlugIn

    @property
    def reshaping(self) -> Reshaping:
        return self.priority.reshaping

    def __call__(self, candidates: Candidates) -> Floats:
        with self.plug_in.blamed():
            return self.plug_in.values(len(candidates), candidates)


def _chain(probabilities: list[float]) -> TokenTree:
    """A finished sequence of three steps, each with this distribution over four tokens."""
    num_steps = 3
    with np.errstate(divide="ignore"):
        logprobs = np.tile(np.log(np.array(probabilities, np.float32)), (num_steps, 1))
    ids = np.tile(np.arange(4, dtype=np.int32), (num_steps, 1))
    tree = TokenTree((0,), max_new_tokens=num_steps, policy=StepRecorder())
    top = TopLogprobs(ids, logprobs, temperature=1.0)
    generation = Generation((0,) * num_steps, "length", 1, 0, top=top)
    tree.append(tree.open_root(), generation, num_steps)
    return tree
