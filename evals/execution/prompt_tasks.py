"""The prompts of a group while they are generated: tasks of an event loop, so many at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from eager_sgl import Bidder
from evals.execution.cell_runs import CellRun
from evals.records.record import PromptRecord
from evals.tasks import Sample

__all__ = ["Outcome", "PromptInCell", "PromptTasks"]

Outcome = PromptRecord | BaseException
"""The result of a prompt in a cell, or its error."""
Work = Callable[[], Awaitable[PromptRecord]]


@dataclass(frozen=True)
class PromptInCell:
    """A prompt in one cell, before it has a result.

    Attributes:
        num_reserved: sequences of the cell's budget that stay reserved for it if it fails.
        num_spent: sequences of its first stage, if this is the second.
        bidder: the prompt's part of the tokens that a search shares.
    """

    run: CellRun
    sample: Sample
    num_reserved: int
    num_spent: int = 0
    bidder: Bidder | None = None


class PromptTasks:
    """The prompts that run, and those that wait for them.

    Attributes:
        max_running: prompts that may run at the same time.
        running: by their tasks, which return errors and raise none.
    """

    def __init__(self, max_running: int) -> None:
        self.max_running = max_running
        self.running: dict[asyncio.Task[Outcome], PromptInCell] = {}
        self._waiting: deque[tuple[PromptInCell, Work]] = deque()

    def submit(self, prompt: PromptInCell, work: Work) -> None:
        """Let a prompt wait for its turn."""
        prompt.run.meter.expect(prompt.sample.id, prompt.num_reserved)
        self._waiting.append((prompt, work))

    def start(self) -> None:
        """Begin as many prompts as may run."""
        while self._waiting and len(self.running) < self.max_running:
            prompt, work = self._waiting.popleft()
            self.running[asyncio.create_task(_outcome(work))] = prompt

    def results(self) -> Iterator[PromptRecord]:
        """The results of tasks that have ended."""
        for task in self.running:
            if task.done() and not task.cancelled():
                outcome = task.result()
                if isinstance(outcome, PromptRecord):
                    yield outcome

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in self.running:
            task.cancel()


async def _outcome(work: Work) -> Outcome:
    """The end of a prompt. In a task, the SystemExit of a user's function would end the loop."""
    try:
        return await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return error
