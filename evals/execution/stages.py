"""Runs a group of cells: the cell that generates from prompts, and the second stages after it.

Every cell has a separate budget, and no finished result is lost. The second stage of a prompt
begins as soon as no unfinished prompt can change its grant. For both rules that is before the
slowest prompt has finished only for grants that reach the cap; all other grants are shares of a
surplus that is known at the end of the first stage.
"""

from __future__ import annotations

from asyncio import FIRST_COMPLETED, Task, wait
from collections.abc import Sequence

from eager_sgl import ServerError
from evals.execution.connection import Server
from evals.execution.group_run import GroupRun
from evals.execution.progress.meter import Silence
from evals.execution.progress.snapshot import Snapshot
from evals.execution.progress.view import View
from evals.execution.prompt_tasks import Outcome
from evals.records.plan import Cell, Plan
from evals.records.record import PromptRecord

__all__ = ["answers", "run_group", "wall_seconds"]

REFRESH_SECONDS = 0.25
LAST_SECONDS = 1.0
"""A server that has failed may not answer the aborts of its requests."""


async def run_group(run: GroupRun, server: Server, view: View) -> None:
    """Generate the missing results of a group, several prompts at a time.

    Each result is written when its prompt finishes. Prompts that share tokens all begin, since each
    has to bid. A prompt that fails is written as failed. An error that all prompts would meet, or a
    cancellation, ends the run: finished results are written, waiting prompts do not begin, and the
    requests of the others are aborted.

    Raises:
        ServerError: the server does not answer, or refuses the key.
        StoreError: nothing can be written.
    """
    try:
        run.begin()
        run.advance()
        await _collect_all(run, server, view)
    except BaseException as error:
        try:
            run.keep_finished()
        finally:
            await run.cancel(LAST_SECONDS if isinstance(error, ServerError) else None)
        raise
    finally:
        run.close()
    run.check()


async def _collect_all(run: GroupRun, server: Server, view: View) -> None:
    silence = Silence()
    while running := run.prompts.running:
        server.check()
        snapshots = run.snapshots()
        view.show(snapshots)
        if seconds := silence.due(run.last_report):
            view.say(await _silence_note(seconds, snapshots, server))
        done, _ = await wait(running, timeout=REFRESH_SECONDS, return_when=FIRST_COMPLETED)
        for task in sorted(done, key=_has_failed):
            await run.collect(task)
        run.advance()
    view.show(run.snapshots())


async def _silence_note(seconds: float, snapshots: Sequence[Snapshot], server: Server) -> str:
    num_alive = sum(snapshot.num_alive for snapshot in snapshots)
    num_running = sum(snapshot.num_running for snapshot in snapshots)
    if num_running and not num_alive:
        return f"no prompt has finished for {seconds:.0f} s; {num_running} are being judged"
    return (
        f"no answer from {server} for {seconds:.0f} s; {num_alive} sequences of {num_running} "
        f"prompts are under way, and {await answers(server)} a short request"
    )


async def answers(server: Server) -> str:
    """Subject and verb: whether servers answer a short request."""
    is_answering = await server.client.is_answering()
    if len(server.urls) == 1:
        return "it answers" if is_answering else "it does not answer"
    return "one of them answers" if is_answering else "none of them answers"


def _has_failed(task: Task[Outcome]) -> bool:
    return not isinstance(task.result(), PromptRecord)


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
