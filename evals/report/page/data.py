"""The data of a page as JSON, which the scripts in `assets/` read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evals.report.page.plot_data import Plots
from evals.report.page.tables import level_table, row_table
from evals.report.page.trees import Trees
from evals.report.summary import Summary, summary_json

__all__ = ["page_json"]


def page_json(summary: Summary, plots: Plots, trees: Trees) -> dict[str, Any]:
    """Summary, tables, plots and trees; named tuples are arrays."""
    return {
        "summary": summary_json(summary),
        "rows": asdict(row_table(summary.rows)),
        "levels": asdict(level_table(summary.rows)),
        **asdict(plots),
        **asdict(trees),
    }
