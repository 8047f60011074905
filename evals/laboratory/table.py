"""The tables of `evals/replay.py`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from evals.laboratory.choosing import Chosen
from evals.laboratory.figures import RuleFigures
from evals.laboratory.report import TaskReport
from evals.laboratory.rules import live_options, why_no_options
from evals.laboratory.syntax import read_rules
from evals.report.column import ABSENT, signed
from evals.report.table import ruled

__all__ = ["render"]

HEADS = ("τ", "accuracy", "difference", "tokens", "share of Full Parallel", "sequences", "steps")


def render(report: TaskReport) -> str:
    """The tables of a task."""
    setting = report.setting
    title = (
        f"{report.name}: {report.num_prompts} prompts, M = {setting.max_sequences}, "
        f"{setting.num_resamples} orders of each"
    )
    if report.num_choosing:
        title += f"; rules chosen on {report.num_choosing} other prompts"
    shown = report.figures or tuple(row.figures for row in report.chosen)
    table = _chosen(report.chosen) if report.chosen else _rules(report.figures)
    parts = [f"{title}\n{table}", _cuts(shown), _live(report)]
    return "\n\n".join(filter(None, parts))


def _rules(figures: Sequence[RuleFigures]) -> str:
    """A line per rule and temperature."""
    lines = [["rule", *HEADS]]
    lines += [[f.rule, *_cells(f, is_reference=f is figures[0])] for f in figures]
    return ruled(lines)


def _chosen(chosen: Sequence[Chosen]) -> str:
    """A line per kind, by its rule on the prompts that it was not chosen on."""
    lines = [["rule", *HEADS, "share where chosen"]]
    for row in chosen:
        mark = "" if row.is_reached else " *"
        where = f"{row.choosing.share:.2f}"
        cells = _cells(row.figures, is_reference=row is chosen[0])
        lines.append([f"{row.figures.rule}{mark}", *cells, where])
    note = "\n* no rule of this kind was as accurate as Full Parallel where it was chosen"
    return ruled(lines) + note * any(not row.is_reached for row in chosen)


def _cuts(figures: Iterable[RuleFigures]) -> str:
    """What cutting changed, of the rules that cut; empty without any."""
    lines = [
        ["votes that cutting changed", "τ", "cut", "changed", "right → wrong", "wrong → right"]
    ]
    for f in figures:
        if f.cut is not None:
            effect = (f.cut.changed, f.cut.lost, f.cut.gained)
            shares = [f"{f.cut.share_cut:.1%}", *(f"{value:.2%}" for value in effect)]
            lines.append([f.rule, f"{f.temperature:g}", *shares])
    return ruled(lines) if len(lines) > 1 else ""


def _live(report: TaskReport) -> str:
    """The options that run the chosen rules as votes, or why none do; empty without any."""
    lines = []
    for figures in dict.fromkeys(row.figures for row in report.chosen):
        (rule,) = read_rules(figures.rule)
        options = live_options(rule)
        if options is None:
            lines.append((rule.text, f"no options: {why_no_options(rule)}"))
        else:
            given = ["--temperature", f"{figures.temperature:g}", *options]
            lines.append((rule.text, shlex.join(given)))
    if not lines:
        return ""
    width = max(len(rule) for rule, _ in lines)
    shared = ["--task", report.task, "--max-sequences", str(report.setting.max_sequences)]
    command = f"evals/run.py --methods vote {shlex.join(shared)}"
    return "\n".join([f"in a run: {command} …", *(f"{r:{width}}  {o}" for r, o in lines)])


def _cells(figures: RuleFigures, *, is_reference: bool) -> list[str]:
    """The figures; those beside the reference are absent for the reference."""
    low, high = figures.accuracy_interval
    less, more = figures.difference_interval
    start, end = figures.share_interval
    return [
        f"{figures.temperature:g}",
        f"{figures.accuracy:.3f} [{low:.3f}, {high:.3f}]",
        ABSENT
        if is_reference
        else f"{signed(figures.difference)} [{signed(less)}, {signed(more)}]",
        f"{figures.tokens:,.0f}",
        ABSENT if is_reference else f"{figures.share:.3f} [{start:.3f}, {end:.3f}]",
        f"{figures.sequences:.1f}",
        ABSENT if figures.steps is None else f"{figures.steps:,.0f}",
    ]
