"""Tokens to equal pass: `python evals/compare.py RUN_FOLDER`.

How many generated tokens each method of a run needs to reach Full Parallel's pass@8, @16 and @32,
as a share of Full Parallel's, per level and over all, and how many seconds that is: with as many
sequences for every prompt, and ("shared") where prompts share their tokens by the uncertainty of
their votes. Then searches against EAGer-init at its tokens, what a verifier saves that ends the
search at the first correct sequence, and what exploring costs the mean sequence and the vote. All
of it is printed and written to compare.json; the curves are drawn in compare.png. Both files are
written to the folder of the run, or to --output-dir.

Seconds are tokens over the tokens per second of the method's group of cells in this run, over all
levels: the pace is assumed to be the same for any target. The cells of a group (EAGer-init and the
methods that continue from it) ran at the same time, so each of them looks slower than alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evals.comparison.compare import Comparison, compare, comparison_json
from evals.comparison.plot import draw_curves
from evals.comparison.read import read_run
from evals.comparison.table import render
from evals.execution.stages import wall_seconds
from evals.records.files import StoreError, reported, write_whole

__all__ = ["main"]

OUTPUT, PLOT = "compare.json", "compare.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="evals/compare.py", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="folder of a finished run that includes parallel")
    parser.add_argument(
        "--output-dir",
        type=Path,
        help="where to write compare.json and compare.png; default: FOLDER",
    )
    options = parser.parse_args(arguments)
    output_dir = options.output_dir or options.folder
    try:
        comparison = _compare(options.folder)
        _write(comparison, output_dir)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(render(comparison))
    print(f"\nresults: {output_dir / OUTPUT}, {output_dir / PLOT}")
    return 0


def _compare(folder: Path) -> Comparison:
    run = read_run(folder)
    return compare(
        run.records,
        run.plan.temperatures[0],
        run.width,
        wall_seconds(run.records, run.plan),
        can_vote=run.plan.can_vote,
        has_shared=run.has_shared,
    )


def _write(comparison: Comparison, folder: Path) -> None:
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / OUTPUT, comparison_json(comparison))
    with reported(folder / PLOT):
        draw_curves(comparison.curves, folder / PLOT)


if __name__ == "__main__":
    sys.exit(main())
