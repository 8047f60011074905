"""A figure is declared once, and is in the file, the table and the page."""

from dataclasses import replace

import pytest

from evals.analysis.matching import MatchedParallel
from evals.analysis.metrics import Estimate
from evals.report.column import Column, difference, with_error
from evals.report.columns import LEVEL_COLUMNS, ROW_COLUMNS
from evals.report.page.tables import level_table, row_table
from evals.report.rows import Row
from evals.report.summarise import summarise_run
from tests.evals.fakes.sample_run import header, plan, run_records


def rows() -> tuple[Row, ...]:
    a_plan = plan(num_prompts=3)
    return summarise_run(header(a_plan), run_records(a_plan), a_plan, {}).rows


@pytest.mark.parametrize("columns", [ROW_COLUMNS, LEVEL_COLUMNS])
def test_no_field_and_no_head_is_there_twice(columns: tuple[Column[Row, object], ...]) -> None:
    for names in (
        [column.key for column in columns],
        [column.line for column in columns],
        [column.head for column in columns],
        [column.page for column in columns],
    ):
        headed = [name for name in names if name]
        assert len(headed) == len(set(headed))


def test_a_mean_has_a_second_field_for_its_error() -> None:
    column: Column[float, Estimate] = Column("x", lambda v: Estimate(v, 0.25), text=with_error)
    assert dict(column.fields(0.5)) == {"x": 0.5, "x_stderr": 0.25}
    absent: Column[float, Estimate] = replace(column, value=lambda _: None)
    assert dict(absent.fields(0.5)) == {"x": None, "x_stderr": None}
    assert (column.show(0.5), absent.show(0.5)) == ("0.500 ± 0.250", "–")


def test_zero_is_shown_and_none_is_not() -> None:
    column: Column[int | None, int] = Column("x", lambda value: value)
    assert (column.show(0), column.show(None)) == ("0", "–")
    assert dict(column.fields(0)) == {"x": 0}


def test_a_difference_of_one_prompt_has_no_interval() -> None:
    assert difference(MatchedParallel(2.0, 1, None, 0.5, None)) == "+0.500 –"


def test_the_page_has_a_line_per_row_and_one_per_level() -> None:
    of_rows, of_levels = row_table(rows()), level_table(rows())
    assert [line.cells[0] for line in of_rows.lines] == [row.cell.name for row in rows()]
    assert len(of_levels.lines) == sum(len(row.levels) for row in rows())
    for table in (of_rows, of_levels):
        assert {len(line.cells) for line in table.lines} == {len(table.heads)}
        assert "τ" not in table.heads, "all rows have the same"
    hot = replace(rows()[0], cell=rows()[0].cell._replace(temperature=1.0))
    assert "τ" in row_table([*rows(), hot]).heads
