"""Tokens that a method needs to reach what Full Parallel reaches, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from eager_sgl.signals import Floats
from evals.analysis.intervals import Resamples
from evals.analysis.prompt_curves import PromptCurves
from evals.comparison.resampling import CONFIDENCE, resampled

__all__ = ["Needed", "Pace", "needed_everywhere", "needed_tokens", "ratio_interval"]

TARGETS = (8, 16, 32)
"""Pass@k of Full Parallel for these k is to be reached."""
Pace = Mapping[str, float]
"""Generated tokens per second, by the name of a method."""


@dataclass(frozen=True)
class Needed:
    """Tokens and seconds to reach Full Parallel's pass@k over some prompts.

    Attributes:
        method: its name with θ and τ.
        levels: of the prompts.
        target: Full Parallel's pass@k, at the run's first temperature.
        tokens: per prompt, that the method needs; None where it never reaches the target.
        reference: Full Parallel at some temperature.
        reference_tokens: that the reference needs.
        ratio: of the two; None where one of them is.
        interval: 90 % bootstrap interval of the ratio over prompts, with an unseen run
            (`evals.analysis.intervals`); infinite in a resample that does not reach the target.
        seconds, reference_seconds: for the tokens at the pace of the run; None where that was not
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


def needed_everywhere(
    curves: Sequence[PromptCurves],
    base: PromptCurves,
    references: Sequence[PromptCurves],
    pace: Pace,
) -> Iterator[Needed]:
    """All methods against all references, over all prompts, by level, and over the hard levels.

    A reference whose prompts share their tokens is compared only with methods whose prompts do.

    Args:
        base: gives the targets.
        references: Full Parallel at all temperatures.
    """
    targets = [k for k in TARGETS if k < base.passes.shape[1]]
    pairs = [
        (method, reference)
        for method, reference in product(curves, references)
        if method.is_shared or not reference.is_shared
    ]
    for levels, (method, reference), k in product(_level_sets(base), pairs, targets):
        needed = needed_tokens(
            method.at_levels(levels), base.at_levels(levels), reference.at_levels(levels), k
        )
        yield replace(
            needed,
            seconds=_seconds(needed.tokens, pace.get(method.name)),
            reference_seconds=_seconds(needed.reference_tokens, pace.get(reference.name)),
        )


def _level_sets(curves: PromptCurves) -> list[Sequence[int | None]]:
    """All prompts, each level, and all levels but the easiest."""
    levels = sorted({level for level in curves.levels if level is not None})
    sets: list[Sequence[int | None]] = [[None]]
    if len(set(curves.levels)) > 1:
        sets += [[level] for level in levels]
    return [*sets, levels[1:]] if len(levels) > 2 else sets


def _seconds(tokens: float | None, pace: float | None) -> float | None:
    return None if tokens is None or pace is None else tokens / pace


def needed_tokens(
    method: PromptCurves, parallel: PromptCurves, reference: PromptCurves, k: int
) -> Needed:
    """Compare a method with Full Parallel over the same prompts.

    Args:
        parallel: gives the target, its pass@k.
        reference: Full Parallel at any temperature, whose tokens to the target are the measure.
        k: at most that of the largest run of `parallel`.
    """
    even = np.full((1, len(method.levels)), 1 / len(method.levels))
    targets = even @ parallel.passes[:, k]
    tokens, reference_tokens = (
        float(_tokens_to(even, side, targets)[0]) for side in (method, reference)
    )
    is_known = math.isfinite(tokens + reference_tokens) and reference_tokens > 0
    return Needed(
        method=method.name,
        levels=tuple(sorted(set(method.levels), key=str)),
        num_prompts=len(method.levels),
        k=k,
        target=float(targets[0]),
        tokens=tokens if math.isfinite(tokens) else None,
        reference=reference.name,
        reference_tokens=reference_tokens if math.isfinite(reference_tokens) else None,
        ratio=tokens / reference_tokens if is_known else None,
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
        (curve[rows, above - 1], curve[rows, above]) for curve in (passes, tokens)
    )
    share = np.clip((targets - low) / np.where(high > low, high - low, 1), 0, 1)
    needed: Floats = np.where(is_reached[:, -1], start + share * (end - start), np.inf)
    return needed


def ratio_interval(
    drawn: Resamples,
    method: PromptCurves,
    parallel: PromptCurves,
    reference: PromptCurves,
    k: int,
    scale: Floats | float = 1.0,
) -> tuple[float, float]:
    """90 % interval of the ratio in `needed_tokens`, from its arguments.

    The unseen run is one that Full Parallel solves and the method does not, or the reverse.

    Args:
        scale: float64 [R], which multiplies the ratio in each resample.
    """
    targets = drawn.weights @ parallel.passes[:, k]
    reference_tokens = _tokens_to(drawn.weights, reference, targets)
    tail = (1 - CONFIDENCE) / 2
    ends = []
    for quantile, shift in ((tail, -drawn.unseen), (1 - tail, drawn.unseen)):
        tokens = _tokens_to(drawn.weights, method, targets + shift)
        is_known = np.isfinite(tokens) & (reference_tokens > 0)
        ratios = np.where(np.isfinite(tokens), 1.0, np.inf)
        ratios[is_known] = tokens[is_known] / reference_tokens[is_known]
        # Without interpolation, which is undefined between a number and infinity.
        ends.append(float(np.quantile(ratios * scale, quantile, method="nearest")))
    return ends[0], ends[1]
