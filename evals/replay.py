"""Rules for votes, played on recorded runs: `python evals/replay.py RUN [RUN ...] --rules RULES`.

What would a rule have answered, and what would it have cost, if Full Parallel's recorded samples
had started in another order? Thousands of orders are drawn; nothing is generated, so that a rule
costs no tokens. The runs are of `evals/run.py --methods parallel --record`. (`evals/run.py
--replay` is another thing: it lets the schedules of a run decide again on the trees of that run.)

A rule has parts with + between them, and values with / between them stand for as many rules:

{parts}

Accuracy is that of the winner of the votes, `difference` and `share` are against Full Parallel with
M sequences at the temperature at which it is the most accurate, `sequences` are those that start,
and `steps` the time until the decision, if all samples that run decode a token in each step.
Intervals are over prompts, 90 %. With --split, or with --choose-on, the cheapest rule of each kind
that is as accurate as Full Parallel is chosen on some prompts and shown on others.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from evals.laboratory.defaults import DEFAULT_RULES
from evals.laboratory.read import read_tasks
from evals.laboratory.report import PlayOptions, TaskReport, compare, split, transfer
from evals.laboratory.rules import Rule
from evals.laboratory.syntax import PARTS, read_rules
from evals.laboratory.table import render
from evals.records.files import StoreError, write_whole

__all__ = ["main"]

NUM_RESAMPLES = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        rules = read_rules(options.rules)
        reports = _reports(options, rules)
        for report in reports:
            print(f"{render(report)}\n")
        if options.json is not None:
            write_whole(options.json, {"tasks": [asdict(report) for report in reports]})
    except (StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _reports(options: argparse.Namespace, rules: Sequence[Rule]) -> list[TaskReport]:
    playing = PlayOptions(options.max_sequences, options.resamples, options.seed)
    if not options.choose_on and not options.show_on:
        tasks = read_tasks(_given(options.folders))
        report = partial(split, tolerance=options.tolerance) if options.split else compare
        return [report(task, rules, tasks[task], playing) for task in tasks]
    if options.folders or options.split or not (options.choose_on and options.show_on):
        raise ValueError("give runs, with or without --split; or --choose-on and --show-on")
    choosing, showing = read_tasks(options.choose_on), read_tasks(options.show_on)
    if choosing.keys() != showing.keys():
        names = " and ".join(", ".join(sorted(map(str, tasks))) for tasks in (choosing, showing))
        raise ValueError(f"--choose-on and --show-on are of different tasks: {names}")
    return [
        transfer(task, rules, choosing[task], showing[task], playing, tolerance=options.tolerance)
        for task in choosing
    ]


def _given(folders: Sequence[Path]) -> Sequence[Path]:
    if not folders:
        raise ValueError("no run is given; give the folders of runs with --record")
    return folders


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(_described(part.usage, part.help) for part in PARTS.values())
    parser = argparse.ArgumentParser(
        prog="evals/replay.py",
        description=(__doc__ or "").format(parts=parts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folders", type=Path, nargs="*", help="folders of recorded runs")
    parser.add_argument(
        "--rules", default=DEFAULT_RULES, help="with commas (default: a grid of all parts)"
    )
    parser.add_argument(
        "--split", action="store_true", help="choose rules on one half of the prompts of each run"
    )
    parser.add_argument("--choose-on", type=Path, nargs="+", help="runs to choose rules on")
    parser.add_argument("--show-on", type=Path, nargs="+", help="runs to show them on")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="by how much a chosen rule may be less accurate than Full Parallel (default: 0)",
    )
    parser.add_argument(
        "--max-sequences", type=int, help="M (default: the samples that every prompt has)"
    )
    parser.add_argument(
        "--resamples", type=int, default=NUM_RESAMPLES, help="orders per prompt (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of orders and halves (%(default)s)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser


def _described(usage: str, text: str) -> str:
    return textwrap.indent(
        f"{usage}\n{textwrap.fill(text, 92, initial_indent='    ', subsequent_indent='    ')}", "  "
    )


if __name__ == "__main__":
    sys.exit(main())
