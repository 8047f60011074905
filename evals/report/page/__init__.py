"""The page of a run, `report.html`, and its plots as PNG files.

`write_report` writes them; the commands know the page by its name, `REPORT`. `plot_data`, `trees`
and `tables` hold what is shown, and the scripts in `assets/` draw it.
"""

from evals.report.page.render import REPORT, write_report

__all__ = ["REPORT", "write_report"]
