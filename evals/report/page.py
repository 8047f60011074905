"""The page of a run: `report.html`, one file that opens offline, and its plots as PNG files."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from msgspec import convert

from evals.records.files import StoreError, replace_file, reported, to_line
from evals.records.folder import SUMMARY
from evals.records.plan import Plan
from evals.records.results import RESULTS, read_records
from evals.report.page_data import page_data

__all__ = ["REPORT", "render_page", "write_report"]

REPORT = "report.html"
PARTS = Path(__file__).with_name("assets")
SCRIPTS = ("base.js", "plots.js", "tree.js", "page.js")


def write_report(folder: Path) -> None:
    """Write `report.html` and the plots beside the `summary.json` and `results.jsonl` of a run.

    Raises:
        StoreError: one of the two is missing or something else, or nothing can be written.
    """
    from evals.report.plots import draw_plots

    summary = _read_summary(folder / SUMMARY)
    plan = convert(summary["config"]["plan"], Plan)
    data = page_data(summary, read_records(folder / RESULTS, plan.cells))
    with reported(folder):
        draw_plots(data, folder)
    replace_file(folder / REPORT, [render_page(data)])


def _read_summary(path: Path) -> dict[str, Any]:
    with reported(path):
        content = path.read_text(encoding="utf-8")
    try:
        summary: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise StoreError(f"{path} is not the summary of a run") from error
    return summary


def render_page(data: dict[str, Any]) -> str:
    """The whole page, with everything that it needs in it."""
    summary = data["summary"]
    title = f"{summary['task']}: {', '.join(summary['config']['plan']['methods'])}"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _part("style.css"),
        "SCRIPT": "\n".join(map(_part, SCRIPTS)),
        # Inside a script element only "<" could end the data.
        "DATA": to_line(data).strip().replace("<", "\\u003c"),
    }
    return re.sub("%(TITLE|STYLE|SCRIPT|DATA)%", lambda place: parts[place[1]], _part("page.html"))


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8").strip()
