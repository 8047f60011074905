"""Compares methods on a task: `python evals/run.py --help`.

Everything that comes out is in the output folder: `config.json`, `results.jsonl` with a line per
prompt and cell of the sweep, written as each prompt finishes, and `summary.json` and `report.html`
once the run is complete. The same command goes on where an earlier one stopped.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_sgl.errors import EagerError, ServerUnreachableError
from evals.calibration import MismatchError
from evals.defaults import OF_TASK
from evals.diagnostics import diagnose
from evals.files import StoreError, reported, write_whole
from evals.folder import RESULTS, SUMMARY, RunFolder, is_complete, read_config
from evals.methods import METHODS, Worker
from evals.plan import Cell, Plan
from evals.progress import View, open_view
from evals.read_settings import parse_settings
from evals.running import restored
from evals.settings import Settings
from evals.stages import run_group, wall_seconds
from evals.store import PromptRecord, ResultStore, read_records

if TYPE_CHECKING:
    from eager_sgl.endpoint import TokenEndpoint
    from eager_sgl.running_threshold import RunningThreshold

INTERRUPTED = 130
SESSION_STRIDE = 7919
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
            return _fail(refusal, 2)
        if settings.regrade:
            return _regrade(settings)
        folder = RunFolder(settings)
    except StoreError as error:
        return _fail(str(error), 2)
    with folder, open_view(sys.stdout) as view:
        try:
            evaluate(settings, folder, view)
        except (EagerError, StoreError, MismatchError) as error:
            failure, code = str(error), 1
        except KeyboardInterrupt:
            failure, code = "interrupted", INTERRUPTED
        else:
            return 0
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
    from evals.grading.sandbox import IsolationError, require_isolation

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


def _report_only(settings: Settings) -> int:
    folder = settings.output_dir
    header, records = read_config(folder), read_records(folder / RESULTS)
    plan = _plan_of(header, folder)
    with open_view(sys.stdout) as view:
        publish(folder, header, records, plan, view, renew=True)
    return 0


def _regrade(settings: Settings) -> int:
    from evals.regrade import regrade

    folder = settings.output_dir
    try:
        with open_view(sys.stdout) as view:
            header, records = regrade(settings, _plan_of(read_config(folder), folder), view)
            publish(folder, header, records, _plan_of(header, folder), view, renew=True)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing is lost, the same command begins again", INTERRUPTED)
    return 0


def _plan_of(header: dict[str, Any], folder: Path) -> Plan:
    try:
        return Plan.from_config(header["config"], can_vote=header["config"]["can_vote"])
    except KeyError as error:
        raise StoreError(f"{folder} was written by another version: no {error} in it") from error


def evaluate(settings: Settings, folder: RunFolder, view: View) -> None:
    """Bring what is missing of a run, and say what came out."""
    store, plan = folder.store, settings.plan
    for notice in folder.notices:
        view.say(notice)
    if store.num_torn:
        view.say(f"cut {store.num_torn} bytes of an unfinished line off {store.path}")
    header = folder.header
    if header is None or plan.missing(cell for cell, _ in store.records):
        if store.records:
            view.say(f"going on from {len(store.records)} results in {store.path}")
        header = _generate(settings, folder, view)
    records, renew = list(store.records.values()), not _is_published(folder.path)
    publish(folder.path, header, records, plan, view, renew=renew)


def _generate(settings: Settings, folder: RunFolder, view: View) -> dict[str, Any]:
    """Run all groups of which something is missing; what `config.json` says."""
    plan, store = settings.plan, folder.store
    with connected(settings, store.session, view) as endpoint:
        if settings.calibration is not None:
            settings.calibration.check_model(endpoint.profile.model_path)
        num_told = len(folder.notices)
        header = folder.settle(settings.header(endpoint.profile))
        for notice in folder.notices[num_told:]:
            view.say(notice)
        if settings.choices.threshold_origin != OF_TASK:
            view.say(settings.choices.describe(endpoint.profile.model_path))
        if settings.theta_is_foreign(endpoint.profile.model_path):
            view.say(f"warning: {FOREIGN_THETA.format(theta=plan.thresholds[0])}")
        worker = Worker(settings, endpoint, _running(settings, store))
        for group in plan.groups:
            if plan.missing(cell for cell, _ in store.records).keys() & set(group.cells):
                run_group(group, plan, worker, store, view)
    return header


def _running(settings: Settings, store: ResultStore) -> dict[Cell, RunningThreshold]:
    """The running θ of each cell that has one, as far as results are stored."""
    return {
        cell: restored((r for r in store.records.values() if r.cell == cell), settings.quantile)
        for cell in settings.plan.cells
        if cell.is_running
    }


def publish(
    folder: Path,
    header: dict[str, Any],
    records: list[PromptRecord],
    plan: Plan,
    view: View,
    *,
    renew: bool,
) -> None:
    """Print the table, and, to renew them, write the summary and the page."""
    from evals.html_report import REPORT, write_report
    from evals.report import render_table, summarise_run

    summary = summarise_run(header, records, plan, wall_seconds(records, plan))
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
    from evals.html_report import REPORT

    return is_complete(folder) and (folder / REPORT).exists()


@contextlib.contextmanager
def connected(settings: Settings, session: int, view: View) -> Iterator[TokenEndpoint]:
    """The server of a run: the given one, or one that lives as long as the context.

    Args:
        session: chooses the server's seed, so that no session repeats the draws of another.
    """
    if settings.server is not None:
        view.say(f"connecting to {settings.server}")
        from eager_sgl.endpoint import connect

        endpoint = connect(
            settings.server,
            api_key=settings.api_key,
            timeout=settings.timeout,
            chat_options=settings.choices.chat_options,
            router=settings.router,
        )
        yield _introduced(endpoint, settings, view)
        return
    from eager_sgl.runtime import EmbeddedRuntime

    # Importing SGLang takes about as long as starting the server: do both at once.
    name = "eager_sgl.program"
    importing = threading.Thread(target=importlib.import_module, args=(name,), daemon=True)
    importing.start()
    with EmbeddedRuntime(
        settings.model,
        log_path=settings.output_dir / "runtime.log",
        server_args={"random_seed": settings.plan.seeds[0] + SESSION_STRIDE * session},
        on_progress=lambda stage: view.say(f"runtime: {stage}"),
    ) as runtime:
        # Python lets a second thread into modules that the first is still importing.
        importing.join()
        from eager_sgl.endpoint import connect

        try:
            endpoint = connect(
                runtime.url,
                api_key=runtime.api_key,
                timeout=settings.timeout,
                chat_options=settings.choices.chat_options,
            )
            yield _introduced(endpoint, settings, view)
        except ServerUnreachableError as error:
            raise ServerUnreachableError(f"{error}; its log is {runtime.log_path}") from error


def _introduced(endpoint: TokenEndpoint, settings: Settings, view: View) -> TokenEndpoint:
    monitor = "gate" if endpoint.gate(settings.base) else "chunk"
    running = ", chunk at the running θ" if None in settings.plan.thresholds else ""
    view.say(f"monitor: {monitor}{running}")
    return endpoint


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
