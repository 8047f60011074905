"""Compares methods on a task: `python evals/run.py --help`.

Everything that comes out is in the output folder: `config.json`, `results.jsonl` with a line per
prompt and cell of the sweep, written as each prompt finishes, `failures.jsonl` with what failed and
why, and `summary.json` and `report.html` once all prompts have finished or failed. The same command
goes on where an earlier one stopped, and tries again what failed.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_sgl.errors import EagerError
from evals.analysis.adaptive_threshold import restored
from evals.analysis.diagnostics import diagnose
from evals.config.calibration import MismatchError
from evals.config.defaults import OF_TASK
from evals.config.parse import parse_settings
from evals.config.settings import Settings
from evals.execution.connection import connected, find_unfit
from evals.execution.endings import (
    BROKEN_OFF,
    FAILED,
    REFUSED,
    interruption,
    terminable,
)
from evals.execution.methods import METHODS
from evals.execution.progress import View, open_view
from evals.execution.stages import run_group, wall_seconds
from evals.execution.worker import Worker
from evals.records.failures import FAILURES, Failure, failed_per_cell, read_failures
from evals.records.files import RefusedError, StoreError, reported, write_whole
from evals.records.folder import RESULTS, SUMMARY, RunFolder, is_complete, read_config
from evals.records.lines import describe
from evals.records.plan import Cell, Plan
from evals.records.store import PromptRecord, ResultStore, read_results
from evals.tasks import Sample

if TYPE_CHECKING:
    from eager_sgl.adaptive_threshold import AdaptiveThreshold

MAX_NAMED = 5
FOREIGN_THETA = (
    "θ = {theta} is the task's, calibrated for the bundled reasoner, K = 20 and entropies at "
    "temperature 1, which this run does not use (evals/calibrate.py chooses one)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    settings = parse_settings(arguments, METHODS)
    # The library raises the error of a worker thread itself; SGLang adds a traceback as a warning.
    warnings.filterwarnings("ignore", message="Error in stream_executor")
    try:
        if settings.report_only:
            return _report_only(settings)
        if refusal := _refused(settings):
            return _fail(refusal, REFUSED)
        if settings.regrade:
            return _regrade(settings)
        folder = RunFolder(settings)
    except StoreError as error:
        return _fail(str(error), REFUSED)
    with folder, open_view(sys.stdout) as view:
        return _ending(settings, folder, view)


def _ending(settings: Settings, folder: RunFolder, view: View) -> int:
    """Evaluate, and say how that ended."""
    try:
        with terminable():
            num_failed = evaluate(settings, folder, view)
    except (RefusedError, MismatchError) as error:
        return _fail(str(error), BROKEN_OFF)
    except (EagerError, StoreError) as error:
        failure, code = str(error), BROKEN_OFF
    except KeyboardInterrupt as error:
        failure, code = interruption(error)
    except Exception as error:
        # A fault of ours: whoever reads the traceback should know that nothing is lost.
        traceback.print_exc()
        failure, code = f"unexpected {type(error).__name__}: {error}", BROKEN_OFF
    else:
        return _fail(_failed(num_failed, folder), FAILED) if num_failed else 0
    return _fail(f"{failure.rstrip('.')}{_kept(folder)}", code)


def _refused(settings: Settings) -> str | None:
    """Why a run that executes programs of the model may not begin; None if it may."""
    if not settings.task.needs_isolation:
        return None
    if not settings.may_run_code:
        return (
            f"judging {settings.task.name} runs programs that the model wrote, in a sandbox; allow "
            "it with --allow-code-execution"
        )
    from evals.grading.programs.sandbox import IsolationError, require_isolation

    try:
        require_isolation()
    except IsolationError as error:
        return str(error)
    return None


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _kept(folder: RunFolder) -> str:
    number = len(folder.store.records)
    if number == 0:
        return ""
    return f"; {number} finished results are kept in {folder.store.path}, the same command goes on"


def _failed(number: int, folder: RunFolder) -> str:
    return f"{number} results failed, see {folder.failures.path}; the same command tries them again"


def _report_only(settings: Settings) -> int:
    folder = settings.output_dir
    header = read_config(folder)
    plan = _plan_of(header, folder)
    records, bad = read_results(folder / RESULTS, plan.cells)
    failures, bad_failures = read_failures(folder / FAILURES, {record.key for record in records})
    with open_view(sys.stdout) as view:
        for name, lines in ((RESULTS, bad), (FAILURES, bad_failures)):
            if lines:
                view.say(f"warning: left out {describe(lines, folder / name)}")
        publish(folder, header, records, failures, plan, view, renew=True)
    return 0


def _regrade(settings: Settings) -> int:
    from evals.execution.regrade import regrade

    folder = settings.output_dir
    try:
        with terminable(), open_view(sys.stdout) as view:
            header, records = regrade(settings, _plan_of(read_config(folder), folder), view)
            failures, _ = read_failures(folder / FAILURES, {record.key for record in records})
            plan = _plan_of(header, folder)
            publish(folder, header, records, failures, plan, view, renew=True)
    except KeyboardInterrupt as error:
        word, code = interruption(error)
        return _fail(f"{word}; nothing is lost, the same command begins again", code)
    return 0


def _plan_of(header: dict[str, Any], folder: Path) -> Plan:
    try:
        return Plan.from_config(header["config"], can_vote=header["config"]["can_vote"])
    except KeyError as error:
        raise StoreError(f"{folder} was written by another version: no {error} in it") from error


def evaluate(settings: Settings, folder: RunFolder, view: View) -> int:
    """Bring what is missing of a run, and say what came out; how many results failed."""
    store, plan = folder.store, settings.plan
    for notice in folder.notices:
        view.say(notice)
    header = folder.header
    if header is None or plan.missing(cell for cell, _ in store.records):
        if store.records:
            view.say(f"going on from {len(store.records)} results in {store.path}")
        if failed := folder.failures.open(store.records):
            view.say(f"trying {len(failed)} results again that had failed")
        header = _generate(settings, folder, view)
    records, failures = list(store.records.values()), folder.failures.open(store.records)
    renew = not _is_published(folder.path)
    publish(folder.path, header, records, failures, plan, view, renew=renew)
    return sum(failed_per_cell(failures, plan, store.records).values())


def _generate(settings: Settings, folder: RunFolder, view: View) -> dict[str, Any]:
    """Run all groups of which something is missing; what `config.json` says."""
    plan, store = settings.plan, folder.store
    with connected(settings, store.session, view) as server:
        profile = server.endpoint.profile
        if settings.calibration is not None:
            settings.calibration.check_model(profile.model_path)
        num_reported = len(folder.notices)
        header = folder.settle(settings.header(profile))
        for notice in folder.notices[num_reported:]:
            view.say(notice)
        if settings.choices.threshold_origin != OF_TASK:
            view.say(settings.choices.describe(profile.model_path))
        if settings.theta_is_foreign(profile.model_path):
            view.say(f"warning: {FOREIGN_THETA.format(theta=plan.thresholds[0])}")
        unfit = find_unfit(_lacking(plan, settings, store), server)
        if unfit:
            view.say(_unfit(settings, unfit))
        worker = Worker(settings, server, _adaptive_thresholds(settings, store), unfit)
        for group in plan.groups:
            if plan.missing(cell for cell, _ in store.records).keys() & set(group.cells):
                run_group(group, plan, worker, store, folder.failures, view)
    return header


def _unfit(settings: Settings, unfit: Container[str]) -> str:
    names = [sample.name for sample in settings.samples if sample.id in unfit]
    named = ", ".join(names[:MAX_NAMED]) + ", …" * (len(names) > MAX_NAMED)
    return f"warning: {len(names)} prompts cannot be given to the model: {named}"


def _lacking(plan: Plan, settings: Settings, store: ResultStore) -> list[Sample]:
    """The prompts that lack a result in any cell."""
    return [
        sample
        for sample in settings.samples
        if any((cell, sample.id) not in store.records for cell in plan.cells)
    ]


def _adaptive_thresholds(settings: Settings, store: ResultStore) -> dict[Cell, AdaptiveThreshold]:
    """The adaptive θ of each cell that has one, as far as results are stored."""
    return {
        cell: restored((r for r in store.records.values() if r.cell == cell), settings.quantile)
        for cell in settings.plan.cells
        if cell.is_adaptive
    }


def publish(
    folder: Path,
    header: dict[str, Any],
    records: list[PromptRecord],
    failures: list[Failure],
    plan: Plan,
    view: View,
    *,
    renew: bool,
) -> None:
    """Print the table, and, to renew them, write the summary and the page."""
    from evals.report.page import REPORT, write_report
    from evals.report.report import render_table, summarise_run

    summary = summarise_run(header, records, plan, wall_seconds(records, plan), failures)
    view.say(f"\n{render_table(summary)}\n")
    for sign in diagnose(records, header["config"].get("eager", {}).get("reasoning_end")):
        view.say(f"warning: {sign}")
    view.say(f"results: {folder}")
    if renew:
        # The page is written last: where it is there, it is of this summary.
        with reported(folder / REPORT):
            (folder / REPORT).unlink(missing_ok=True)
        write_whole(folder / SUMMARY, summary.to_json())
        write_report(folder)


def _is_published(folder: Path) -> bool:
    """Whether the summary and the page of a complete run are there."""
    from evals.report.page import REPORT

    return is_complete(folder) and (folder / REPORT).exists()


if __name__ == "__main__":
    exit_code = 1
    try:
        exit_code = main()
    except Exception:
        traceback.print_exc()
    if exit_code != 0:
        # Threads that still wait for a server would keep a failed run alive for minutes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
