"""Seconds to equal pass: `python evals/comparison/seconds.py RUN_FOLDER`, or `make seconds`.

How long each method of a run takes until it reaches Full Parallel's pass@16 and pass@32, as a share
of Full Parallel's own seconds: at its best temperature, that of the highest pass@k of the run. The
seconds are those of all prompts of the run, at its concurrency. They are the tokens to that pass
over the method's tokens per second of wall time in this run: the pace is taken to be the same for
any target, so its M should be close to what the targets need. The 90 % intervals are over prompts
(with an unseen run) and over the seeds, each of which has a pace.

`make seconds` first runs `evals/run.py` on countdown, the methods in turn for three seeds, which
needs a quiet machine. The table is printed and written to seconds.json.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eager_sgl.signals import Floats
from evals.analysis.groups import group_by
from evals.analysis.prompt_curves import PromptCurves, curve_cell, prompt_curves
from evals.comparison.needed import needed_tokens, ratio_interval
from evals.comparison.read import read_run
from evals.comparison.resampling import resampled
from evals.execution.stages import wall_seconds
from evals.records.files import StoreError, write_whole
from evals.records.plan import NESTED, PARALLEL, Cell
from evals.records.record import PromptRecord
from evals.report.column import ABSENT
from evals.report.table import ruled

__all__ = ["Seconds", "main", "seconds_to_targets"]

TARGETS = (16, 32)
OUTPUT = "seconds.json"


@dataclass(frozen=True)
class Seconds:
    """Seconds to Full Parallel's pass@k over all prompts of a run.

    Attributes:
        target: pass@k of the reference.
        reference: Full Parallel at its best temperature.
        tokens_per_second: generated tokens, over all seeds.
        seconds: None where the method never reaches the target.
        ratio: of the seconds; None where one of them is, or the target is 0.
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
            yield _compared(curve, best, paces[curve.cell], paces[best.cell], k)


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


def _compared(
    method: PromptCurves, reference: PromptCurves, pace: _Pace, reference_pace: _Pace, k: int
) -> Seconds:
    needed = needed_tokens(method, reference, reference, k)
    num_prompts, scale = needed.num_prompts, reference_pace.mean / pace.mean
    interval = None
    if needed.ratio is not None:
        drawn = resampled(method)
        rows, seeds = len(drawn.weights), len(pace.tokens)
        weights = np.random.default_rng(0).dirichlet(np.ones(seeds), rows)
        scales = reference_pace.drawn(weights) / pace.drawn(weights)
        interval = ratio_interval(drawn, method, reference, reference, k, scales)
    return Seconds(
        method=method.name,
        k=k,
        target=needed.target,
        reference=reference.name,
        tokens_per_second=pace.mean,
        seconds=_over(needed.tokens, pace.mean, num_prompts),
        reference_seconds=_over(needed.reference_tokens, reference_pace.mean, num_prompts),
        ratio=None if needed.ratio is None else needed.ratio * scale,
        interval=interval,
    )


def _over(tokens: float | None, pace: float, num_prompts: int) -> float | None:
    return None if tokens is None else tokens / pace * num_prompts


def _table(rows: Iterable[Seconds]) -> str:
    lines = [["method", "to reach", "of", "token/s", "seconds", "its seconds", "share"]]
    for row in rows:
        lines.append(
            [
                row.method,
                f"pass@{row.k} ({row.target:.3f})",
                row.reference,
                f"{row.tokens_per_second:.0f}",
                "not reached" if row.seconds is None else f"{row.seconds:.1f}",
                ABSENT if row.reference_seconds is None else f"{row.reference_seconds:.1f}",
                _share(row),
            ]
        )
    return ruled(lines)


def _share(row: Seconds) -> str:
    if row.ratio is None or row.interval is None:
        return ABSENT
    low, high = row.interval
    top = "∞" if math.isinf(high) else f"{high:.2f}"
    return f"{row.ratio:.2f} [{low:.2f}, {top}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="evals/comparison/seconds.py", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="folder of a finished run that includes parallel")
    folder = parser.parse_args(arguments).folder
    try:
        run = read_run(folder)
        if run.has_shared:
            raise StoreError(
                f"{folder} was run with --token-budget; its searches are not parts of longer ones"
            )
        rows = list(seconds_to_targets(run.records, wall_seconds(run.records, run.plan)))
        write_whole(folder / OUTPUT, {"seconds": [asdict(row) for row in rows]})
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(rows))
    print(f"\nresults: {folder / OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
