"""The tables of a page, from the columns that have a head there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from evals.report.column import Column
from evals.report.columns import LEVEL_COLUMNS, ROW_COLUMNS, SETTING_COLUMNS, TEMPERATURE
from evals.report.rows import Row

__all__ = ["level_table", "row_table"]

Source = TypeVar("Source")


@dataclass(frozen=True)
class TableLine:
    """A line of text, and the method whose colour it has."""

    method: str
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A table of texts: its heads, and the cells of its lines."""

    heads: list[str]
    lines: list[TableLine]


def row_table(rows: Sequence[Row]) -> Table:
    """A line per row."""
    columns = _shown(ROW_COLUMNS, rows)
    lines = [TableLine(row.cell.method, _cells(columns, row)) for row in rows]
    return Table(_heads(columns), lines)


def level_table(rows: Sequence[Row]) -> Table:
    """A line per row and level."""
    setting, columns = _shown(SETTING_COLUMNS, rows), _shown(LEVEL_COLUMNS, rows)
    lines = [
        TableLine(row.cell.method, [*_cells(setting, row), *_cells(columns, level)])
        for row in rows
        for level in row.levels
    ]
    return Table([*_heads(setting), *_heads(columns)], lines)


def _shown(
    columns: Iterable[Column[Source, Any]], rows: Sequence[Row]
) -> list[Column[Source, Any]]:
    """The columns with a head on the page; τ only where it varies."""
    varies = len({row.cell.temperature for row in rows}) > 1
    return [c for c in columns if c.page and (varies or c.page != TEMPERATURE.page)]


def _heads(columns: Iterable[Column[Source, Any]]) -> list[str]:
    return [column.page for column in columns]


def _cells(columns: Iterable[Column[Source, Any]], row: Source) -> list[str]:
    return [column.show(row, in_short=True) for column in columns]
