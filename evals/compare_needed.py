"""Tokens that a method needs to reach what Full Parallel reaches, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.compare_budgets import TAIL, resampled
from evals.prompt_curves import PromptCurves

__all__ = ["Needed", "needed_tokens"]

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
        interval: 90 % bootstrap interval of the ratio over prompts; a resample in which the method
            never gets there counts as infinite.
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
    weights = np.full(len(method.levels), 1 / len(method.levels))
    target = float(weights @ parallel.passes[:, k])
    tokens, reference_tokens = (_tokens_to(weights, side, target) for side in (method, reference))
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
        interval=_interval(method, parallel, reference, k) if ratio is not None else None,
    )


def _tokens_to(weights: Floats, curves: PromptCurves, target: float) -> float:
    """Linear between whole numbers of sequences; infinite beyond the curve."""
    passes = np.maximum.accumulate(weights @ curves.passes)
    tokens = np.maximum.accumulate(weights @ curves.tokens)
    if passes[-1] < target - 1e-12:
        return math.inf
    above = int(np.argmax(passes >= target - 1e-12))
    if above == 0:
        return 0.0
    rise = passes[above] - passes[above - 1]
    share = (target - passes[above - 1]) / rise
    return float(tokens[above - 1] + share * (tokens[above] - tokens[above - 1]))


def _interval(
    method: PromptCurves, parallel: PromptCurves, reference: PromptCurves, k: int
) -> tuple[float, float]:
    ratios = []
    for weights in resampled(len(method.levels)):
        target = float(weights @ parallel.passes[:, k])
        own, most = (_tokens_to(weights, side, target) for side in (method, reference))
        ratios.append(own if math.isinf(own) else own / most if most > 0 else 1.0)
    # Without interpolation, which has no value between a number and infinity.
    low, high = np.quantile(ratios, [TAIL, 1 - TAIL], method="nearest")
    return float(low), float(high)
