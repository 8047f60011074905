"""The table, summary and page of a run's folder, after a run or again later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.analysis.diagnostics import diagnose
from evals.config import Settings
from evals.execution.progress.view import View
from evals.execution.stages import wall_seconds
from evals.records.failures import FAILURES, Failure, read_failures
from evals.records.files import reported, write_whole
from evals.records.folder import SUMMARY, is_complete
from evals.records.header import RunHeader, read_header
from evals.records.lines import describe
from evals.records.plan import Plan
from evals.records.record import PromptRecord
from evals.records.results import RESULTS, read_results

__all__ = ["is_published", "publish", "regrade_and_publish", "report_again"]


def publish(
    folder: Path,
    header: RunHeader,
    records: Sequence[PromptRecord],
    failures: Sequence[Failure],
    plan: Plan,
    view: View,
    *,
    renew: bool,
) -> None:
    """Print the table, and, to renew them, write the summary and the page."""
    from evals.report.page import REPORT, write_report
    from evals.report.summarise import summarise_run
    from evals.report.summary import summary_json
    from evals.report.table import render_table

    records, failures = list(records), list(failures)
    summary = summarise_run(header, records, plan, wall_seconds(records, plan), failures)
    view.say(f"\n{render_table(summary)}\n")
    for sign in diagnose(records, header.config.eager.reasoning_end):
        view.say(f"warning: {sign}")
    view.say(f"results: {folder}")
    if renew:
        # The page is written last: an existing page is of the present summary.
        with reported(folder / REPORT):
            (folder / REPORT).unlink(missing_ok=True)
        write_whole(folder / SUMMARY, summary_json(summary))
        write_report(folder, summary, records)


def is_published(folder: Path) -> bool:
    """Whether the summary and the page of a complete run exist."""
    from evals.report.page import REPORT

    return is_complete(folder) and (folder / REPORT).exists()


def report_again(folder: Path, view: View) -> None:
    """Publish the results of a folder, complete or not.

    Raises:
        StoreError: the folder holds no run, or cannot be used.
    """
    header = read_header(folder)
    plan = header.config.plan
    records, bad = read_results(folder / RESULTS, plan.cells)
    failures, bad_failures = read_failures(folder / FAILURES, {record.key for record in records})
    for name, lines in ((RESULTS, bad), (FAILURES, bad_failures)):
        if lines:
            view.say(f"warning: left out {describe(lines, folder / name)}")
    publish(folder, header, records, failures, plan, view, renew=True)


def regrade_and_publish(settings: Settings, view: View) -> None:
    """Judge the results of a folder again, and publish them.

    Raises:
        StoreError: the folder holds no results that can be judged again, or cannot be used.
    """
    from evals.execution.regrade import regrade

    folder, experiment = settings.output_dir, settings.experiment
    end, concurrency = experiment.base.reasoning_end, experiment.concurrency
    header, records = regrade(folder, experiment.task, end, concurrency, view)
    failures, _ = read_failures(folder / FAILURES, {record.key for record in records})
    publish(folder, header, records, failures, header.config.plan, view, renew=True)
