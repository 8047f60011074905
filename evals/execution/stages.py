"""Runs a group of cells: the cell that generates from prompts, and the second stages after it.

Every cell has a separate budget, and no finished result is lost. The second stage of a prompt
begins as soon as no unfinished prompt can change its grant. For both rules that is before the
slowest prompt has finished only for grants that reach the cap; all other grants are shares of a
surplus that is known at the end of the first stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from evals.execution.connection import Server
from evals.execution.group_run import GroupRun
from evals.execution.meter import Silence
from evals.execution.progress import View
from evals.execution.snapshot import Snapshot
from evals.execution.worker import Worker
from evals.records.failures import FailureLog
from evals.records.plan import Cell, Group, Plan
from evals.records.record import PromptRecord
from evals.records.results import ResultStore

__all__ = ["run_group", "wall_seconds"]

REFRESH_SECONDS = 0.25


def run_group(
    group: Group,
    plan: Plan,
    worker: Worker,
    store: ResultStore,
    failures: FailureLog,
    view: View,
) -> None:
    """Generate the missing results of a group, several prompts at a time.

    Each result is written when its prompt finishes. Prompts that share tokens all begin, since each
    has to bid. A prompt that fails is written as failed. An error that all prompts would meet ends
    the run: finished results are written, waiting prompts do not begin.

    Raises:
        ServerError: the server does not answer, or refuses the key.
        StoreError: nothing can be written.
    """
    experiment = worker.experiment
    shares = experiment.shared_tokens(group.first) is not None
    pool = ThreadPoolExecutor(len(experiment.samples) if shares else experiment.concurrency)
    run = GroupRun(group, plan, worker, store, failures, view, pool)
    try:
        run.begin()
        run.advance()
        _collect_all(run, worker.server, view)
    except BaseException:
        run.keep_finished()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        run.close()
    run.check()


def _collect_all(run: GroupRun, server: Server, view: View) -> None:
    silence = Silence()
    while run.pending:
        server.check()
        snapshots = run.snapshots()
        view.show(snapshots)
        if seconds := silence.due(run.last_report):
            view.say(_silence_note(seconds, snapshots, server))
        done, _ = wait(run.pending, REFRESH_SECONDS, FIRST_COMPLETED)
        for future in sorted(done, key=_has_failed):
            run.collect(future)
        run.advance()
    view.show(run.snapshots())


def _silence_note(seconds: float, snapshots: Sequence[Snapshot], server: Server) -> str:
    num_alive = sum(snapshot.num_alive for snapshot in snapshots)
    num_running = sum(snapshot.num_running for snapshot in snapshots)
    if num_running and not num_alive:
        return f"no prompt has finished for {seconds:.0f} s; {num_running} are being judged"
    answers = "answers" if server.endpoint.is_answering() else "does not answer"
    return (
        f"no answer from {server.endpoint.base_url} for {seconds:.0f} s; {num_alive} "
        f"sequences of {num_running} prompts are under way, and it {answers} a short request"
    )


def _has_failed(future: Future[PromptRecord]) -> bool:
    return future.exception() is not None


def wall_seconds(records: Sequence[PromptRecord], plan: Plan) -> dict[Cell, float]:
    """Seconds of each cell from the start of its group to its last prompt, over all sessions.

    The cells of a group run at the same time, and one of two stages includes its first.
    """
    last: dict[tuple[Cell, int], float] = {}
    for record in records:
        key = (record.cell, record.session)
        last[key] = max(last.get(key, 0.0), record.elapsed)
    sessions = {session for _, session in last}
    return {
        cell: sum(
            max(last.get((cell, session), 0.0), last.get((group.first, session), 0.0))
            for session in sessions
        )
        for group in plan.groups
        for cell in group.cells
    }
