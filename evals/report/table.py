"""The table at the end of a run, and the honest sentences under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from evals.analysis.metrics import Estimate
from evals.report.remarks import ABSENT, Cell, failed_prompts, judgements, of_the_paper, remarks
from evals.report.summary import Row, Summary

__all__ = ["WIDTH", "render_table", "ruled"]

WIDTH = 100
GAP = 2


def render_table(summary: Summary) -> str:
    """A column per method where each has one row and they fit, else a block per temperature."""
    rows = summary.rows
    if not rows:
        return "no results yet"
    table, in_table = _columns(rows), True
    if len({row.name for row in rows}) < len(rows) or len(table.splitlines()[0]) > WIDTH:
        table, in_table = _blocks(rows), False
    sentences = (*summary.findings, *summary.notes, *remarks(rows, in_table=in_table))
    return "\n".join([table, *(textwrap.fill(sentence, WIDTH) for sentence in sentences)])


def _columns(rows: Sequence[Row]) -> str:
    lines = [["", *(row.name for row in rows)]]
    lines += [[label, *(cell(row) for row in rows)] for label, cell in _figures(rows)]
    return ruled(lines, 1)


def _figures(rows: Sequence[Row]) -> list[tuple[str, Cell]]:
    max_sequences = max(row.max_sequences for row in rows)
    figures: list[tuple[str, Cell]] = [(f"Pass@{max_sequences}", lambda row: _figure(row.coverage))]
    if any(row.matched for row in rows):
        figures += [
            ("  parallel, equal tokens", _matched),
            ("  difference", _difference),
            ("  95 % interval", _interval),
        ]
    figures += [
        (f"Cons@{max_sequences}", lambda row: _figure(row.cons)),
        ("Pass Rate", lambda row: _figure(row.pass_rate)),
        ("sequences (#S)", lambda row: f"{row.num_sequences:,}"),
    ]
    if any(row.stage_two for row in rows):
        figures += [("  extra, of those granted", _extra), ("  tokens per extra", _per_extra)]
    return [
        *figures,
        ("tokens generated (#T)", lambda row: f"{row.counts.generated:,}"),
        ("  unique, in the tree", lambda row: f"{row.counts.unique:,}"),
        ("  naive, nothing shared", lambda row: f"{row.counts.naive:,}"),
        ("  discarded", lambda row: f"{row.counts.discarded:,}"),
        ("prompt tokens cached", lambda row: _measured(row, f"{row.cached_share:.1%}")),
        ("requests", lambda row: _measured(row, f"{row.counts.requests:,}")),
        *judgements(rows),
        *failed_prompts(rows),
        ("seconds", _seconds),
        *of_the_paper(rows),
    ]


def _blocks(rows: Sequence[Row]) -> str:
    blocks = []
    for temperature, block in groupby(rows, lambda row: row.temperature):
        lines = [
            ["method", "M", "θ", "Pass@M", "Cons", "Rate", "#S", "#T", "par. =T", "difference"]
        ]
        lines += [_line(row) for row in block]
        blocks.append(f"temperature {temperature:g}\n{ruled(lines, 1)}")
    return "\n\n".join(blocks)


def _line(row: Row) -> list[str]:
    matched = row.matched.pass_at_k if row.matched else None
    difference = ABSENT if matched is None else f"{_difference(row)} {_interval(row)}"
    return [
        row.name,
        str(row.max_sequences),
        row.theta or ABSENT,
        _figure(row.coverage).replace(" ", ""),
        _short(row.cons),
        _short(row.pass_rate),
        f"{row.num_sequences:,}",
        f"{row.counts.generated:,}",
        _short(matched),
        difference,
    ]


def ruled(lines: Sequence[Sequence[str]], num_heads: int) -> str:
    """Aligned, the first column to the left, with a rule under the head and at the end."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    gap = " " * (3 if sum(widths) + 3 * (len(widths) - 1) <= WIDTH else GAP)
    table = [
        gap.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    rule = "─" * max(map(len, table))
    return "\n".join([*table[:num_heads], rule, *table[num_heads:], rule])


def _figure(value: Estimate | None) -> str:
    if value is None:
        return ABSENT
    stderr = f"{value.stderr:.3f}" if value.stderr == value.stderr else ABSENT
    return f"{value.value:.3f} ± {stderr}"


def _short(value: Estimate | None) -> str:
    return ABSENT if value is None else f"{value.value:.3f}"


def _matched(row: Row) -> str:
    return _figure(row.matched.pass_at_k if row.matched else None)


def _difference(row: Row) -> str:
    difference = row.matched.difference if row.matched else None
    return ABSENT if difference is None else f"{difference:+.3f}"


def _interval(row: Row) -> str:
    interval = row.matched.interval if row.matched else None
    return f"[{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else ABSENT


def _extra(row: Row) -> str:
    totals = row.stage_two
    return ABSENT if totals is None else f"{totals.extra_used:,} of {totals.extra_granted:,}"


def _per_extra(row: Row) -> str:
    tokens = row.stage_two.tokens_per_extra if row.stage_two else None
    return ABSENT if tokens is None else f"{tokens:.1f}"


def _measured(row: Row, text: str) -> str:
    return ABSENT if row.estimated else text


def _seconds(row: Row) -> str:
    return ABSENT if row.wall_seconds is None else f"{row.wall_seconds:.1f}"
