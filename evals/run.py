"""Runs methods on a task and compares them: `python evals/run.py --help`.

All output is in the output folder: `config.json`, `results.jsonl` with a line per prompt and cell
of the sweep, written as each prompt finishes, `failures.jsonl` with the prompts that failed and the
reasons, and `summary.json` and `report.html` once all prompts have finished or failed. The same
command continues where an earlier one stopped, and retries the prompts that failed.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Sequence

from eager_sgl import EagerError
from eager_sgl.engine.loop import GC_THRESHOLD
from evals.config import MismatchError, Settings, parse_settings
from evals.execution.endings import (
    BROKEN_OFF,
    FAILED,
    REFUSED,
    fail,
    failed_note,
    interruption,
    kept_note,
    terminable,
)
from evals.execution.evaluation import evaluate
from evals.execution.methods import METHODS
from evals.execution.permission import obstacle
from evals.execution.progress.view import View, open_view
from evals.execution.publishing import regrade_and_publish, report_again
from evals.execution.replay.folder import replay_folder
from evals.records.files import RefusedError, StoreError
from evals.records.folder import RunFolder

__all__ = ["METHODS", "main", "parse_settings"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    gc.set_threshold(GC_THRESHOLD)
    settings = parse_settings(arguments, METHODS)
    try:
        if settings.report_only:
            return _report_only(settings)
        if settings.replay:
            return _replay(settings)
        if refusal := obstacle(settings.task, may_run_code=settings.may_run_code):
            return fail(refusal, REFUSED)
        if settings.regrade:
            return _regrade(settings)
        folder = _open_folder(settings)
    except StoreError as error:
        return fail(str(error), REFUSED)
    with folder, open_view(sys.stdout) as view:
        return _evaluate(settings, folder, view)


def _report_only(settings: Settings) -> int:
    with open_view(sys.stdout) as view:
        report_again(settings.output_dir, view)
    return 0


def _replay(settings: Settings) -> int:
    with open_view(sys.stdout) as view:
        failure = replay_folder(settings.output_dir, settings.experiment, view)
    return fail(failure, FAILED) if failure else 0


def _regrade(settings: Settings) -> int:
    try:
        with terminable(), open_view(sys.stdout) as view:
            regrade_and_publish(settings, view)
    except KeyboardInterrupt as error:
        word, code = interruption(error)
        return fail(f"{word}; nothing is lost, the same command starts again", code)
    return 0


def _open_folder(settings: Settings) -> RunFolder:
    experiment = settings.experiment
    return RunFolder(
        settings.output_dir,
        settings.stored(),
        experiment.task,
        experiment.samples,
        model=None if settings.server.urls else settings.server.model,
        set_aside=settings.set_aside,
    )


def _evaluate(settings: Settings, folder: RunFolder, view: View) -> int:
    """Evaluate, and report how that ended."""
    try:
        with terminable():
            num_failed = evaluate(settings, folder, view)
    except (RefusedError, MismatchError) as error:
        return fail(str(error), BROKEN_OFF)
    except (EagerError, StoreError) as error:
        failure, code = str(error), BROKEN_OFF
    except KeyboardInterrupt as error:
        failure, code = interruption(error)
    except Exception as error:
        # A bug: the reader of the traceback should know that nothing is lost.
        traceback.print_exc()
        failure, code = f"unexpected {type(error).__name__}: {error}", BROKEN_OFF
    else:
        return fail(failed_note(num_failed, folder), FAILED) if num_failed else 0
    return fail(f"{failure.rstrip('.')}{kept_note(folder)}", code)


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
