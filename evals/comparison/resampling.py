"""The resamples of all comparisons, and their confidence."""

from __future__ import annotations

from evals.analysis.intervals import Resamples, resamples
from evals.analysis.prompt_curves import PromptCurves

__all__ = ["CONFIDENCE", "resampled"]

CONFIDENCE = 0.9
NUM_RESAMPLES = 2_000
"""Fewer than for reports: each is a search along two curves."""


def resampled(curves: PromptCurves) -> Resamples:
    """Of the prompts of a method, from a fixed seed."""
    return resamples(len(curves.levels), curves.num_seeds, NUM_RESAMPLES)
