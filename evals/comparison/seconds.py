"""Seconds to equal pass: `python evals/comparison/seconds.py RUN_FOLDER`, or `make seconds`.

How long each method of a run takes until it reaches Full Parallel's pass@16 and pass@32, as a share
of Full Parallel's own seconds: at its best temperature, that of the highest pass@k of the run. The
seconds are those of all prompts of the run, at its concurrency. They are the tokens to that pass
over the method's tokens per second of wall time in this run: the pace is taken to be the same for
any target, so its M should be close to what the targets need. The 90 % intervals are over prompts
(with an unseen run) and over the seeds, each of which has a pace.

A second table compares equal numbers of sequences: the seconds of 16 and of 32 as a share of Full
Parallel's, and the difference of their passes. Where nearly all prompts are solved, tokens to equal
pass depend on the last few of them, and this says more. Samples of `trie_parallel` have the
distribution of Full Parallel's, so that passes differ by chance alone. The row of that with which
the others are compared has its seconds alone.

`make seconds` first runs `evals/run.py` on countdown, the methods in turn for three seeds, which
needs a quiet machine. The table is printed and written to seconds.json.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from evals.comparison.read import read_run
from evals.comparison.timing import Seconds, SecondsAtK, seconds_at_k, seconds_to_targets
from evals.execution.stages import wall_seconds
from evals.records.files import StoreError, write_whole
from evals.report.column import ABSENT
from evals.report.table import ruled

__all__ = ["main"]

OUTPUT = "seconds.json"


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
                _share(row.ratio, row.interval),
            ]
        )
    return ruled(lines)


def _table_at_k(rows: Iterable[SecondsAtK]) -> str:
    lines = [["method", "sequences", "pass", "of", "difference", "share of its seconds"]]
    for row in rows:
        lines.append(
            [
                row.method,
                str(row.k),
                f"{row.passes:.3f}",
                row.reference,
                _difference(row.difference, row.difference_interval),
                _share(row.ratio, row.interval),
            ]
        )
    return ruled(lines)


def _difference(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return ABSENT
    low, high = interval
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _share(ratio: float | None, interval: tuple[float, float] | None) -> str:
    if ratio is None or interval is None:
        return ABSENT
    low, high = interval
    top = "∞" if math.isinf(high) else f"{high:.2f}"
    return f"{ratio:.2f} [{low:.2f}, {top}]"


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
        seconds = wall_seconds(run.records, run.plan)
        rows = list(seconds_to_targets(run.records, seconds))
        at_k = list(seconds_at_k(run.records, seconds))
        written = {"seconds": [*map(asdict, rows)], "seconds_at_k": [*map(asdict, at_k)]}
        write_whole(folder / OUTPUT, written)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(rows))
    print(f"\n{_table_at_k(at_k)}")
    print(f"\nresults: {folder / OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
