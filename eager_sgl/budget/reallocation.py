"""Who gets the sequences that EAGer-init left over (paper, section 4): two rules, one split.

The surplus `M·|D| − Σ S_i` is split uniformly over the eligible prompts, the remainder one by one
to the first of them, and no prompt gets more than its cap. What exceeds the caps stays unspent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import PromptResult, Verifier

__all__ = ["RULES", "Grant", "Reallocation", "StageOne"]


@dataclass(frozen=True)
class StageOne:
    """The outcome of EAGer-init on one prompt, as far as a rule may depend on it.

    Attributes:
        num_sequences: S_i.
        max_sequences: M, the cap it ran under.
        solved: whether any sequence is correct; None without labels or a verifier.
    """

    num_sequences: int
    max_sequences: int
    solved: bool | None = None

    @classmethod
    def of(cls, result: PromptResult, verifier: Verifier | None = None) -> StageOne:
        """The outcome in a result; without a verifier `solved` is None."""
        solved = None
        if verifier is not None:
            plug_in = PlugIn("verifier", verifier, ("sequence",))
            solved = any(map(plug_in.boolean, result.sequences))
        return cls(len(result.sequences), result.max_sequences, solved)

    @property
    def saturated(self) -> bool:
        """Whether the prompt reached M sequences."""
        return self.num_sequences >= self.max_sequences


@dataclass(frozen=True)
class Grant:
    """A prompt's part of the surplus.

    Attributes:
        extra: sequences beyond those of the first stage.
        threshold: θ in nats that they are generated with.
    """

    extra: int
    threshold: float


def _saturating(stage_one: StageOne, threshold: float, factor: float) -> float | None:
    return threshold if stage_one.saturated else None


def _unsolved(stage_one: StageOne, threshold: float, factor: float) -> float | None:
    if stage_one.solved is None:
        raise ValueError(
            "solved is None; the rule 'eager' needs labels or a verifier for every prompt"
        )
    if stage_one.solved:
        return None
    return threshold if stage_one.saturated else factor * threshold


@dataclass(frozen=True)
class Reallocation:
    """A rule for the surplus.

    Attributes:
        name: as on the command line and in files.
        needs_labels: whether `StageOne.solved` must be known, from labels or a verifier.
        next_threshold: maps a prompt's stage one, θ and `threshold_factor` to θ of its extra
            sequences; None if the prompt is not eligible.
        max_extra_factor: cap per prompt, as a multiple of M. The paper says 2; its reference
            implementation uses 1 with labels and 3 without.
        threshold_factor: multiplies θ where a prompt did not saturate (paper: 0.8).
        max_tries: how often a prompt restarts, each time at a lower θ, until its extra sequences
            exist. The paper mentions one try; its reference implementation has no limit.
        late_factor: multiplies θ once more at every try from the third on (reference: 0.9).
    """

    name: str
    needs_labels: bool
    next_threshold: Callable[[StageOne, float, float], float | None]
    max_extra_factor: float = 2.0
    threshold_factor: float = 0.8
    max_tries: int = 1
    late_factor: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.max_extra_factor < math.inf:
            raise ValueError(
                f"max_extra_factor is {self.max_extra_factor}; it must be above 0 and finite"
            )
        for name in ("threshold_factor", "late_factor"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in (0, 1]")
        if self.max_tries < 1:
            raise ValueError(f"max_tries is {self.max_tries}; it must be at least 1")

    def max_extra(self, max_sequences: int) -> int:
        """Cap of one prompt in sequences, at least 1."""
        return max(1, math.floor(round(self.max_extra_factor * max_sequences, 9)))

    def thresholds(self, first: float) -> list[float]:
        """θ of each try, the first being that of the grant."""
        factor, late = self.threshold_factor, self.late_factor
        return [first * factor**n * late ** max(0, n - 1) for n in range(self.max_tries)]

    def lowest_threshold(self, threshold: float) -> float:
        """The lowest θ of extra sequences.

        Args:
            threshold: θ of the first stage.
        """
        unsaturated = StageOne(0, 1, solved=False)
        first = self.next_threshold(unsaturated, threshold, self.threshold_factor)
        return self.thresholds(threshold if first is None else first)[-1]

    def certain_grants(
        self, stage_ones: Mapping[str, StageOne], num_prompts: int, threshold: float
    ) -> dict[str, Grant]:
        """The grants that no unfinished prompt can change any more.

        Once all prompts have finished their first stage, these are the grants of all eligible ones.
        Before, a prompt is sure of its cap if it gets that much even when every unfinished prompt
        turns out to be eligible and leaves nothing over. That holds for both rules.

        Args:
            stage_ones: of the prompts that have finished, in the order of the prompts.
            num_prompts: |D|, all with the same M.
            threshold: θ of the first stage.
        """
        thresholds = {
            key: next_threshold
            for key, stage_one in stage_ones.items()
            if (next_threshold := self.next_threshold(stage_one, threshold, self.threshold_factor))
        }
        if not thresholds:
            return {}
        surplus = sum(s.max_sequences - s.num_sequences for s in stage_ones.values())
        cap = self.max_extra(next(iter(stage_ones.values())).max_sequences)
        num_unfinished = num_prompts - len(stage_ones)
        share, remainder = divmod(surplus, len(thresholds) + num_unfinished)
        if num_unfinished and share < cap:
            return {}
        return {
            key: Grant(min(share + (index < remainder), cap), next_threshold)
            for index, (key, next_threshold) in enumerate(thresholds.items())
        }


RULES = {
    rule.name: rule
    for rule in (
        Reallocation("eager_adapt", needs_labels=False, next_threshold=_saturating),
        Reallocation("eager", needs_labels=True, next_threshold=_unsolved),
    )
}
"""The rules of the paper: EAGer-adapt (saturating prompts) and full EAGer (unsolved prompts)."""
