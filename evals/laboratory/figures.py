"""The figures of rules: means over prompts, with their intervals, against Full Parallel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evals.analysis.intervals import resamples
from evals.laboratory.outcome import RuleOutcome

__all__ = ["CutEffect", "RuleFigures", "figures_of"]

CONFIDENCE = 0.9
NUM_RESAMPLES = 2_000
"""Of prompts, for intervals."""


@dataclass(frozen=True)
class CutEffect:
    """What cutting or filtering did, as means over prompts and orders.

    Attributes:
        share_cut: of the samples that started.
        changed, lost, gained: see `RuleOutcome`.
    """

    share_cut: float
    changed: float
    lost: float
    gained: float


@dataclass(frozen=True)
class RuleFigures:
    """A rule at one temperature against a reference, on the same prompts.

    Attributes:
        rule: as the command line has it.
        accuracy: mean over prompts and orders.
        difference: of the accuracy, to that of the reference.
        tokens, sequences, steps: per prompt; steps are None where prompts wait for each other.
        share: of the reference's tokens.
        accuracy_interval, difference_interval, share_interval: 90 %, over prompts
            (`evals.analysis.intervals`).
        cut: None for a rule without cuts and filters.
    """

    rule: str
    temperature: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]
    tokens: float
    share: float
    share_interval: tuple[float, float]
    sequences: float
    steps: float | None
    cut: CutEffect | None


def figures_of(outcome: RuleOutcome, temperature: float, reference: RuleOutcome) -> RuleFigures:
    """The figures of a rule; the same prompts in the same order in both."""
    drawn = resamples(len(outcome.tokens), 1, NUM_RESAMPLES)
    differences = outcome.accuracy - reference.accuracy
    steps = float(outcome.steps.mean())
    return RuleFigures(
        rule=outcome.rule.text,
        temperature=temperature,
        accuracy=float(outcome.accuracy.mean()),
        accuracy_interval=drawn.share_interval(outcome.accuracy, CONFIDENCE),
        difference=float(differences.mean()),
        difference_interval=drawn.interval(drawn.weights @ differences, CONFIDENCE),
        tokens=float(outcome.tokens.mean()),
        share=float(outcome.tokens.sum() / reference.tokens.sum()),
        share_interval=drawn.ratio_interval(outcome.tokens, reference.tokens, CONFIDENCE),
        sequences=float(outcome.sequences.mean()),
        steps=None if np.isnan(steps) else steps,
        cut=_cut_effect(outcome),
    )


def _cut_effect(outcome: RuleOutcome) -> CutEffect | None:
    has_cuts = outcome.rule.cutting is not None or outcome.rule.filter is not None
    if not has_cuts or np.isnan(outcome.changed).any():
        return None
    return CutEffect(
        share_cut=float(outcome.num_cut.sum() / outcome.sequences.sum()),
        changed=float(outcome.changed.mean()),
        lost=float(outcome.lost.mean()),
        gained=float(outcome.gained.mean()),
    )
