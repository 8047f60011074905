"""Tokens that a method needs to reach what Full Parallel reaches, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.analysis.intervals import Resamples
from evals.analysis.prompt_curves import PromptCurves
from evals.comparison.budgets import CONFIDENCE, resampled

__all__ = ["Needed", "needed_tokens", "ratio_interval"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Needed:
    """What a method needs to reach Full Parallel's pass@k over some prompts.

    Attributes:
        method: as the run calls it, with its temperature.
        levels: of the prompts.
        target: Full Parallel's pass@k, at the run's first temperature.
        tokens: per prompt, that the method needs; None where it never gets there.
        reference: Full Parallel at some temperature.
        reference_tokens: that this needs to get there.
        ratio: of the two; None with either.
        interval: 90 % bootstrap interval of the ratio over prompts, with an unseen run
            (`evals.analysis.intervals`); a resample in which the method never gets there counts as
            infinite.
        seconds, reference_seconds: what the tokens take at the pace of the run; None where nobody
            measured.
    """

    method: str
    levels: tuple[int | None, ...]
    num_prompts: int
    k: int
    target: float
    tokens: float | None
    reference: str
    reference_tokens: float | None
    ratio: float | None
    interval: tuple[float, float] | None
    seconds: float | None = None
    reference_seconds: float | None = None


def needed_tokens(
    method: PromptCurves, parallel: PromptCurves, reference: PromptCurves, k: int
) -> Needed:
    """Compare a method with Full Parallel over the same prompts.

    Args:
        parallel: gives the target, its pass@k.
        reference: Full Parallel at any temperature, whose tokens to the target are the measure.
        k: at most what `parallel` was run with.
    """
    even = np.full((1, len(method.levels)), 1 / len(method.levels))
    targets = even @ parallel.passes[:, k]
    target = float(targets[0])
    tokens, reference_tokens = (
        float(_tokens_to(even, side, targets)[0]) for side in (method, reference)
    )
    is_known = math.isfinite(tokens + reference_tokens) and reference_tokens > 0
    ratio = tokens / reference_tokens if is_known else None
    return Needed(
        method=method.name,
        levels=tuple(sorted(set(method.levels), key=str)),
        num_prompts=len(method.levels),
        k=k,
        target=target,
        tokens=tokens if math.isfinite(tokens) else None,
        reference=reference.name,
        reference_tokens=reference_tokens if math.isfinite(reference_tokens) else None,
        ratio=ratio,
        interval=ratio_interval(resampled(method), method, parallel, reference, k)
        if is_known
        else None,
    )


def _tokens_to(weights: Floats, curves: PromptCurves, targets: Floats) -> Floats:
    """Tokens to each target [R], under its row of weights [R, P]; infinite beyond the curve.

    Linear between whole numbers of sequences.
    """
    passes = np.maximum.accumulate(weights @ curves.passes, axis=1)
    tokens = np.maximum.accumulate(weights @ curves.tokens, axis=1)
    is_reached = passes >= targets[:, None] - 1e-12
    rows, above = np.arange(len(targets)), np.maximum(is_reached.argmax(axis=1), 1)
    (low, high), (start, end) = (
        (each[rows, above - 1], each[rows, above]) for each in (passes, tokens)
    )
    share = np.clip((targets - low) / np.where(high > low, high - low, 1), 0, 1)
    found: Floats = np.where(is_reached[:, -1], start + share * (end - start), np.inf)
    return found


def ratio_interval(
    drawn: Resamples,
    method: PromptCurves,
    parallel: PromptCurves,
    reference: PromptCurves,
    k: int,
) -> tuple[float, float]:
    """90 % interval of the ratio that `needed_tokens` finds, from its arguments.

    The unseen run is one that Full Parallel solves and the method does not, or the other way round.
    """
    targets = drawn.weights @ parallel.passes[:, k]
    most = _tokens_to(drawn.weights, reference, targets)
    tail = (1 - CONFIDENCE) / 2
    ends = []
    for quantile, moved in ((tail, -drawn.unseen), (1 - tail, drawn.unseen)):
        own = _tokens_to(drawn.weights, method, targets + moved)
        is_known = np.isfinite(own) & (most > 0)
        ratios = np.where(np.isfinite(own), 1.0, np.inf)
        ratios[is_known] = own[is_known] / most[is_known]
        # Without interpolation, which has no value between a number and infinity.
        ends.append(float(np.quantile(ratios, quantile, method="nearest")))
    return ends[0], ends[1]
