"""The table at the end of a run, and the sentences under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from evals.report.columns import ROW_COLUMNS
from evals.report.notes import remarks
from evals.report.rows import Row
from evals.report.summary import Summary

__all__ = ["WIDTH", "render_table", "ruled"]

WIDTH = 100
GAP, WIDE_GAP = 2, 3


def render_table(summary: Summary) -> str:
    """A column per method where each has one row and they fit, else a table per temperature."""
    rows = summary.rows
    if not rows:
        return "no results yet"
    table = _column_per_method(rows)
    fits = len(table.partition("\n")[0]) <= WIDTH
    has_columns = fits and len({row.cell.name for row in rows}) == len(rows)
    if not has_columns:
        table = _line_per_row(rows)
    sentences = (*summary.savings, *summary.findings, *summary.notes)
    sentences += tuple(remarks(rows, with_counts=not has_columns))
    return "\n".join([table, *(textwrap.fill(sentence, WIDTH) for sentence in sentences)])


def _column_per_method(rows: Sequence[Row]) -> str:
    largest = max(row.cell.max_sequences for row in rows)
    lines = [["", *(row.cell.name for row in rows)]]
    lines += [
        [column.line.format(M=largest), *(column.show(row) for row in rows)]
        for column in ROW_COLUMNS
        if column.line and any(map(column.needed_by, rows))
    ]
    return ruled(lines)


def _line_per_row(rows: Sequence[Row]) -> str:
    columns = [column for column in ROW_COLUMNS if column.head]
    tables = []
    for temperature, group in groupby(rows, lambda row: row.cell.temperature):
        lines = [[column.head for column in columns]]
        lines += [[column.show(row, in_short=True) for column in columns] for row in group]
        tables.append(f"temperature {temperature:g}\n{ruled(lines)}")
    return "\n\n".join(tables)


def ruled(lines: Sequence[Sequence[str]]) -> str:
    """Aligned, the first column to the left, with a rule under the first line and at the end."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_narrow = sum(widths) + WIDE_GAP * (len(widths) - 1) <= WIDTH
    gap = " " * (WIDE_GAP if is_narrow else GAP)
    head, *table = [
        gap.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    rule = "─" * len(head)
    return "\n".join([head, rule, *table, rule])
