"""Where a sequence may branch: callables from a chunk's distributions to branch points.

A policy only decides and gives its evidence; how many branches a prompt may have is the
schedule's and the budget's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl.config import EagerConfig
from eager_sgl.core import BranchPoint, TopLogprobs
from eager_sgl.signals import retemper, top_k_entropy
from eager_sgl.steps import Steps

__all__ = ["EntropyThreshold", "Policy", "StepSignals"]


@dataclass(frozen=True)
class StepSignals:
    """What a policy saw in a chunk.

    Attributes:
        entropies: one per step, in nats.
        branch_points: the steps that may branch, by rising position.
        steps: those whose alternatives are worth storing; None where none ever are.
        raw_logprobs: of the tokens drawn, at temperature 1; None where nobody asked.
    """

    entropies: list[float]
    branch_points: list[BranchPoint]
    steps: Steps | None = None
    raw_logprobs: list[float] | None = None


Policy = Callable[[TopLogprobs, Sequence[int], int], StepSignals]
"""`(top, sampled, start)`: the C distributions of a chunk, the C tokens drawn from them, and the
position of the first."""


@dataclass(frozen=True)
class EntropyThreshold:
    """A step may branch where its top-K entropy reaches θ (paper, section 3).

    Attributes:
        threshold: in nats; below θ where refused branches are kept down to a lower entropy.
        temperature: of the distribution whose entropy is taken.
    """

    threshold: float
    temperature: float = 1.0

    @classmethod
    def from_config(cls, config: EagerConfig) -> EntropyThreshold:
        """The policy that a configuration describes."""
        return cls(config.deferred_threshold or config.threshold, config.entropy_temperature)

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
