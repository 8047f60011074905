"""How long a method takes to a target, and for a number of sequences, beside Full Parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eager_sgl.signals import Floats
from evals.analysis.groups import group_by
from evals.analysis.intervals import Resamples
from evals.analysis.prompt_curves import PromptCurves, curve_cell, prompt_curves
from evals.comparison.needed import needed_tokens, ratio_interval
from evals.comparison.resampling import CONFIDENCE, resampled
from evals.records.files import StoreError
from evals.records.plan import NESTED, PARALLEL, Cell
from evals.records.record import PromptRecord

__all__ = ["Seconds", "SecondsAtK", "seconds_at_k", "seconds_to_targets"]

TARGETS = (16, 32)


@dataclass(frozen=True)
class Seconds:
    """Seconds to Full Parallel's pass@k over all prompts of a run.

    Attributes:
        target: pass@k of the reference.
        reference: Full Parallel at its best temperature.
        tokens_per_second: generated tokens, over all seeds.
        seconds: None where the method never reaches the target.
        ratio: of the seconds; None where one of them is, the target is 0, and of the reference.
        interval: of the ratio, 90 %; infinite in a resample that does not reach the target.
    """

    method: str
    k: int
    target: float
    reference: str
    tokens_per_second: float
    seconds: float | None
    reference_seconds: float | None
    ratio: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class SecondsAtK:
    """Seconds of the first k sequences of every prompt of a run, and what they solve.

    Attributes:
        reference: Full Parallel at its best temperature, with k sequences too.
        passes: pass@k.
        difference: of pass@k from the reference's; None for the reference, as are those below.
        difference_interval: 90 %, paired over prompts.
        ratio: of the seconds.
        interval: of the ratio, 90 %, over prompts and seeds.
    """

    method: str
    k: int
    reference: str
    passes: float
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Pace:
    """Generated tokens [S] and seconds [S] of a method by seed."""

    tokens: Floats
    seconds: Floats

    @property
    def mean(self) -> float:
        """Tokens per second over all seeds."""
        return float(self.tokens.sum() / self.seconds.sum())

    def drawn(self, weights: Floats) -> Floats:
        """Tokens per second under each row of weights [R, S]."""
        paces: Floats = (weights @ self.tokens) / (weights @ self.seconds)
        return paces


def seconds_to_targets(
    records: Sequence[PromptRecord], seconds: Mapping[Cell, float]
) -> Iterator[Seconds]:
    """Every search, and Full Parallel at every temperature, against its best temperature.

    Args:
        seconds: wall time of each cell.

    Raises:
        StoreError: the run has no Full Parallel, too few sequences of it, or no times.
    """
    for k, (method, pace), (best, best_pace) in _pairs(records, seconds):
        yield _to_target(method, best, pace, best_pace, k)


def seconds_at_k(
    records: Sequence[PromptRecord], seconds: Mapping[Cell, float]
) -> Iterator[SecondsAtK]:
    """The same with equally many sequences; arguments and errors of `seconds_to_targets`."""
    for k, (method, pace), (best, best_pace) in _pairs(records, seconds):
        if k < method.passes.shape[1]:
            yield _at_k(method, best, pace, best_pace, k)


_Timed = tuple[PromptCurves, _Pace]


def _pairs(
    records: Sequence[PromptRecord], seconds: Mapping[Cell, float]
) -> Iterator[tuple[int, _Timed, _Timed]]:
    """For each target k every curve, and Full Parallel at its best temperature."""
    nested = [record for record in records if record.method in NESTED]
    curves = prompt_curves(nested)
    parallels = [curve for curve in curves if curve.cell.method == PARALLEL]
    if not parallels:
        raise StoreError("the run has no parallel to compare with")
    longest = parallels[0].passes.shape[1] - 1
    if longest < TARGETS[0]:
        raise StoreError(
            f"parallel has {longest} sequences; pass@{TARGETS[0]} is of at least {TARGETS[0]}"
        )
    paces = _paces(nested, seconds)
    for k in (k for k in TARGETS if k <= longest):
        best = max(parallels, key=lambda curve: float(curve.passes[:, k].mean()))
        for curve in curves:
            yield k, (curve, paces[curve.cell]), (best, paces[best.cell])


def _paces(records: Iterable[PromptRecord], seconds: Mapping[Cell, float]) -> dict[Cell, _Pace]:
    paces = {}
    for cell, group in group_by(records, lambda record: curve_cell(record.cell)).items():
        by_cell = group_by(group, lambda record: record.cell)
        cells = sorted(by_cell, key=lambda cell: cell.seed)
        tokens = [sum(record.counts.generated for record in by_cell[cell]) for cell in cells]
        spent = np.array([seconds[cell] for cell in cells])
        if not (spent > 0).all():
            raise StoreError(f"the results of {cell.label()} have no times")
        paces[cell] = _Pace(np.array(tokens, dtype=np.float64), spent)
    return paces


def _at_k(
    method: PromptCurves, reference: PromptCurves, pace: _Pace, reference_pace: _Pace, k: int
) -> SecondsAtK:
    row = SecondsAtK(method.name, k, reference.name, float(method.passes[:, k].mean()))
    if method is reference:
        return row
    drawn = resampled(method)
    differences = method.passes[:, k] - reference.passes[:, k]
    tokens, reference_tokens = method.tokens[:, k], reference.tokens[:, k]
    scales = _scales(drawn, pace, reference_pace)
    scale = reference_pace.mean / pace.mean
    return replace(
        row,
        difference=float(differences.mean()),
        difference_interval=drawn.interval(drawn.weights @ differences, CONFIDENCE),
        ratio=float(tokens.sum() / reference_tokens.sum()) * scale,
        interval=drawn.ratio_interval(tokens, reference_tokens, CONFIDENCE, scales),
    )


def _scales(drawn: Resamples, pace: _Pace, reference_pace: _Pace) -> Floats:
    """How much slower a method is than the reference [R], in resamples of the seeds."""
    seeds = np.ones(len(pace.tokens))
    weights = np.random.default_rng(0).dirichlet(seeds, len(drawn.weights))
    scales: Floats = reference_pace.drawn(weights) / pace.drawn(weights)
    return scales


def _to_target(
    method: PromptCurves, reference: PromptCurves, pace: _Pace, reference_pace: _Pace, k: int
) -> Seconds:
    needed = needed_tokens(method, reference, reference, k)
    num_prompts, scale = needed.num_prompts, reference_pace.mean / pace.mean
    ratio = None if method is reference else needed.ratio
    interval = None
    if ratio is not None:
        drawn = resampled(method)
        scales = _scales(drawn, pace, reference_pace)
        interval = ratio_interval(drawn, method, reference, reference, k, scales)
    return Seconds(
        method=method.name,
        k=k,
        target=needed.target,
        reference=reference.name,
        tokens_per_second=pace.mean,
        seconds=_over(needed.tokens, pace.mean, num_prompts),
        reference_seconds=_over(needed.reference_tokens, reference_pace.mean, num_prompts),
        ratio=None if ratio is None else ratio * scale,
        interval=interval,
    )


def _over(tokens: float | None, pace: float, num_prompts: int) -> float | None:
    return None if tokens is None else tokens / pace * num_prompts
