"""Compares methods on a task: `python evals/run.py --help`.

Everything that comes out is in the output folder: `config.json`, `results.jsonl` with a line per
prompt and method, written as each prompt finishes, and `summary.json` once the run is complete.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any

from eager_sgl.budget import Ledger
from eager_sgl.errors import EagerError
from evals.methods import METHODS, run_prompt
from evals.progress import Meter, View, open_view
from evals.report import Row, match_parallel, render_table, run_header, summarise
from evals.settings import Settings, parse_settings
from evals.store import PromptRecord, ResultStore, StoreError, prepare_folder

if TYPE_CHECKING:
    from eager_sgl.endpoint import TokenEndpoint

REFRESH_SECONDS = 0.25
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    settings = parse_settings(arguments, tuple(METHODS))
    # The library raises the error of a worker thread itself; SGLang adds a traceback as a warning.
    warnings.filterwarnings("ignore", message="Error in stream_executor")
    try:
        earlier = prepare_folder(settings.output_dir, set_aside=settings.set_aside)
        store = ResultStore(settings.output_dir)
    except StoreError as error:
        return _fail(str(error), 2)
    with store, open_view(sys.stdout) as view:
        if earlier is not None:
            view.say(f"the results of the last run are now in {earlier}")
        try:
            evaluate(settings, store, view)
        except (EagerError, StoreError) as error:
            failure, code = str(error), 1
        except KeyboardInterrupt:
            failure, code = "interrupted", INTERRUPTED
        else:
            return 0
    return _fail(f"{failure.rstrip('.')}{_kept(store)}", code)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _kept(store: ResultStore) -> str:
    if store.num_results == 0:
        return ""
    return f"; {store.num_results} finished results are kept in {store.results_path}"


def evaluate(settings: Settings, store: ResultStore, view: View) -> None:
    """Run all methods on all prompts and write what came out."""
    records: dict[str, list[PromptRecord]] = {}
    rows: list[Row] = []
    with connected(settings, view) as endpoint:
        header = run_header(settings, endpoint.profile)
        store.write_config(header)
        for name in settings.methods:
            started = time.monotonic()
            records[name] = run_method(name, settings, endpoint, store, view)
            seconds = time.monotonic() - started
            can_vote = settings.task.can_vote
            rows.append(summarise(records[name], can_vote=can_vote, wall_seconds=seconds))
    if "parallel" in records:
        parallel = records["parallel"]
        rows = [row if row.method == "parallel" else match_parallel(row, parallel) for row in rows]
    store.write_summary(header | {"rows": [row.to_json() for row in rows]})
    view.say(f"\n{render_table(rows)}\n\nresults: {store.folder}")


@contextlib.contextmanager
def connected(settings: Settings, view: View) -> Iterator[TokenEndpoint]:
    """The server of a run: the given one, or one that lives as long as the context."""
    if settings.server is not None:
        view.say(f"connecting to {settings.server}")
        from eager_sgl.endpoint import connect

        yield connect(settings.server, api_key=settings.api_key, timeout=settings.timeout)
        return
    from eager_sgl.runtime import EmbeddedRuntime

    # Importing SGLang takes about as long as starting the server: do both at once.
    name = "eager_sgl.program"
    importing = threading.Thread(target=importlib.import_module, args=(name,), daemon=True)
    importing.start()
    with EmbeddedRuntime(
        settings.model,
        log_path=settings.output_dir / "runtime.log",
        server_args={"random_seed": settings.seed},
        on_progress=lambda stage: view.say(f"runtime: {stage}"),
    ) as runtime:
        # Python lets a second thread into modules that the first is still importing.
        importing.join()
        from eager_sgl.endpoint import connect

        yield connect(runtime.url, timeout=settings.timeout)


def run_method(
    name: str, settings: Settings, endpoint: TokenEndpoint, store: ResultStore, view: View
) -> list[PromptRecord]:
    """Run a method on all prompts, several at a time; each is written as it finishes.

    The first failure ends the run: what has finished is written, what waits is not begun.
    """
    samples = settings.samples
    meter = Meter(name, len(samples))
    ledger = Ledger(settings.eager.max_sequences * len(samples))
    run = partial(run_prompt, METHODS[name], settings, endpoint, ledger, meter)
    records: list[PromptRecord] = []
    pool = ThreadPoolExecutor(settings.concurrency)
    try:
        pending = {pool.submit(run, sample) for sample in samples}
        while pending:
            done, pending = wait(pending, REFRESH_SECONDS, FIRST_COMPLETED)
            for future in sorted(done, key=_has_failed):
                record = future.result()
                store.append(record)
                meter.finish(record.sample_id, record.counts)
                records.append(record)
            view.show(meter.snapshot())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return records


def _has_failed(future: Future[Any]) -> bool:
    return future.exception() is not None


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
