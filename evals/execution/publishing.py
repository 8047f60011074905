"""The table, summary and page of a run's folder, after a run or again later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.analysis.diagnostics import diagnose
from evals.config import Settings
from evals.execution.progress import View
from evals.execution.stages import wall_seconds
from evals.records.failures import FAILURES, Failure, read_failures
from evals.records.files import StoreError, reported, write_whole
from evals.records.folder import RESULTS, SUMMARY, Header, is_complete, read_config
from evals.records.lines import describe
from evals.records.plan import Plan
from evals.records.store import PromptRecord, read_results

__all__ = ["is_published", "publish", "regrade_and_publish", "report_again"]


def publish(
    folder: Path,
    header: Header,
    records: Sequence[PromptRecord],
    failures: Sequence[Failure],
    plan: Plan,
    view: View,
    *,
    renew: bool,
) -> None:
    """Print the table, and, to renew them, write the summary and the page."""
    from evals.report.page import REPORT, write_report
    from evals.report.report import render_table, summarise_run

    records, failures = list(records), list(failures)
    summary = summarise_run(header, records, plan, wall_seconds(records, plan), failures)
    view.say(f"\n{render_table(summary)}\n")
    for sign in diagnose(records, header["config"].get("eager", {}).get("reasoning_end")):
        view.say(f"warning: {sign}")
    view.say(f"results: {folder}")
    if renew:
        # The page is written last: an existing page is of the present summary.
        with reported(folder / REPORT):
            (folder / REPORT).unlink(missing_ok=True)
        write_whole(folder / SUMMARY, summary.to_json())
        write_report(folder)


def is_published(folder: Path) -> bool:
    """Whether the summary and the page of a complete run exist."""
    from evals.report.page import REPORT

    return is_complete(folder) and (folder / REPORT).exists()


def report_again(folder: Path, view: View) -> None:
    """Publish the results of a folder, complete or not.

    Raises:
        StoreError: the folder holds no run, or cannot be used.
    """
    header = read_config(folder)
    plan = _plan_of(header, folder)
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

    folder = settings.output_dir
    header, records = regrade(settings, _plan_of(read_config(folder), folder), view)
    failures, _ = read_failures(folder / FAILURES, {record.key for record in records})
    publish(folder, header, records, failures, _plan_of(header, folder), view, renew=True)


def _plan_of(header: Header, folder: Path) -> Plan:
    try:
        return Plan.from_config(header["config"], can_vote=header["config"]["can_vote"])
    except KeyError as error:
        raise StoreError(f"{folder} was written by another version: it has no {error}") from error
