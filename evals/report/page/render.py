"""The page of a run: `report.html`, one file that opens offline, and its plots as PNG files."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from evals.records.files import replace_file, reported, to_line
from evals.records.record import PromptRecord
from evals.report.page.plot_data import plots_of
from evals.report.page.tables import level_table, row_table
from evals.report.page.trees import trees_of
from evals.report.summary import Summary, summary_json

__all__ = ["REPORT", "render_page", "write_report"]

REPORT = "report.html"
ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("base.js", "plots.js", "tree.js", "page.js")


def write_report(folder: Path, summary: Summary, records: Sequence[PromptRecord]) -> None:
    """Write `report.html` and the plots into the folder of a run.

    Raises:
        StoreError: a file cannot be written.
    """
    from evals.report.page.plots import draw_plots

    with reported(folder):
        draw_plots(plots_of(summary, records), folder)
    replace_file(folder / REPORT, [render_page(summary, records)])


def render_page(summary: Summary, records: Sequence[PromptRecord]) -> str:
    """The page, which loads nothing."""
    # Named tuples become arrays.
    data = {
        "summary": summary_json(summary),
        "rows": asdict(row_table(summary.rows)),
        "levels": asdict(level_table(summary.rows)),
        **asdict(plots_of(summary, records)),
        **asdict(trees_of(summary.plan, records)),
    }
    title = f"{summary.header.config.task}: {', '.join(summary.plan.methods)}"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("style.css"),
        "SCRIPT": "\n".join(map(_asset, SCRIPTS)),
        # Inside a script element only "<" could end the data.
        "DATA": to_line(data).strip().replace("<", "\\u003c"),
    }
    return re.sub("%(TITLE|STYLE|SCRIPT|DATA)%", lambda name: parts[name[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8").strip()
