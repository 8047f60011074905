"""Policies: functions from the distributions of steps to the points where a sequence may branch.

A policy decides on steps alone and returns its evidence; how many branches a prompt may have is
decided by the schedule and the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eager_sgl.config import EagerConfig
from eager_sgl.core import BranchPoint, TopLogprobs
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.signals import retemper, top_k_entropy
from eager_sgl.steps import Steps

__all__ = ["EntropyThreshold", "Policy", "StepSignals"]


@dataclass(frozen=True)
class StepSignals:
    """The signals of C consecutive steps.

    Attributes:
        entropies: [C], in nats.
        branch_points: the steps that may branch, by rising position.
        steps: those to be stored with their alternatives; None under a policy that stores none.
        raw_logprobs: [C], of the sampled tokens at temperature 1; None under a policy without them.
    """

    entropies: list[float]
    branch_points: list[BranchPoint]
    steps: Steps | None = None
    raw_logprobs: list[float] | None = None

    def at(self, positions: Sequence[int]) -> StepSignals:
        """The signals of steps at these positions [C], which were read as those from 0 on."""
        points = [replace(p, position=positions[p.position]) for p in self.branch_points]
        steps = self.steps
        if steps is not None:
            moved = np.asarray(positions, np.int32)[steps.positions]
            steps = replace(steps, positions=moved)
        return replace(self, branch_points=points, steps=steps)


Policy = Callable[[TopLogprobs, Sequence[int], int], StepSignals]
"""(top, sampled, start) -> signals: the C distributions, the C tokens sampled from them, and the
position of the first step."""


@dataclass(frozen=True)
class EntropyThreshold:
    """A step may branch where its top-K entropy reaches θ (paper, section 3).

    Attributes:
        threshold: in nats; below θ where deferred branches are listed down to a lower entropy.
        temperature: of the distribution whose entropy is taken.
    """

    threshold: float
    temperature: float = 1.0

    @classmethod
    def from_config(cls, config: EagerConfig) -> EntropyThreshold:
        return cls(config.deferred_threshold or config.threshold, config.entropy_temperature)

    def gate(self, top_k: int) -> Gate:
        """A gate that reports the steps that may branch."""
        return Gate(top_k=top_k, threshold=self.threshold, temperature=self.temperature)

    def __call__(self, top: TopLogprobs, sampled: Sequence[int], start: int) -> StepSignals:
        probabilities = retemper(top.logprobs, taken_at=top.temperature, wanted=self.temperature)
        entropies = top_k_entropy(probabilities)
        points = [
            BranchPoint(
                position=start + int(step),
                entropy=float(entropies[step]),
                token_ids=(int(top.token_ids[step, 0]), int(top.token_ids[step, 1])),
                probabilities=(float(probabilities[step, 0]), float(probabilities[step, 1])),
                logprobs=(float(top.logprobs[step, 0]), float(top.logprobs[step, 1])),
                sampled=sampled[step],
            )
            for step in np.flatnonzero(entropies >= self.threshold)
        ]
        return StepSignals(entropies.tolist(), points)
