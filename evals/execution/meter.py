"""The progress of the cells of a run: the reports of their prompts, added up."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from eager_sgl import Ledger, TokenCounts

__all__ = ["Meter", "Silence", "Snapshot"]

SILENT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The progress of a cell.

    Attributes:
        label: the method, and the values that differ between cells.
        num_done: prompts that have finished, in earlier sessions too.
        num_failed: prompts that failed in this session.
        num_ran: of both, prompts that were run in this session.
        num_running: prompts that have begun and not finished.
        num_solved: finished prompts with a correct sequence; None if nothing was judged.
        num_alive: sequences still running.
        spent, reserved, free: sequences of the cell's budget.
        generated: tokens decoded in this session, by running prompts too.
        cached_share: of the prompt tokens sent so far, served by the radix tree; 0 before any.
        seconds: since the first prompt began.
    """

    label: str
    num_done: int
    num_failed: int
    num_ran: int
    num_running: int
    num_prompts: int
    num_solved: int | None
    num_alive: int
    spent: int
    reserved: int
    free: int
    generated: int
    cached_share: float
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether all prompts have finished or failed."""
        return self.num_left == 0

    @property
    def num_left(self) -> int:
        """Prompts that have neither finished nor failed."""
        return self.num_prompts - self.num_done - self.num_failed

    @property
    def tokens_per_second(self) -> float:
        """Decoded, on average since the first prompt began."""
        return self.generated / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate at the pace so far; None before a prompt was run in this session.

        A running prompt counts as half run, which it is on average: without that the pace would
        seem too low as long as most of the prompts are running.
        """
        if not self.num_ran:
            return None
        half_run = self.num_running / 2
        return self.seconds * max(self.num_left - half_run, 0) / (self.num_ran + half_run)

    def describe(self) -> str:
        """One line."""
        is_known = self.num_done and self.num_solved is not None
        pass_at_k = f"{(self.num_solved or 0) / self.num_done:.2f}" if is_known else "–"
        failed = f"{self.num_failed} failed, " if self.num_failed else ""
        is_known = self.seconds_left is not None and not self.complete
        left = f", about {_duration(self.seconds_left or 0)} left" if is_known else ""
        return (
            f"{self.label}: {self.num_done}/{self.num_prompts} prompts, {failed}"
            f"{self.num_running} running, Pass@k {pass_at_k}, {self.num_alive} sequences alive, "
            f"budget {self.spent} spent + {self.reserved} reserved + {self.free} free, "
            f"{self.tokens_per_second:,.0f} token/s, cache {self.cached_share:.1%}, "
            f"{self.seconds:.0f} s{left}"
        )


def _duration(seconds: float) -> str:
    """Two units at the most."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours} h"


class Meter:
    """Adds up the reports of the prompts of one cell, from any thread.

    Args:
        label: of the cell.
        ledger: its budget.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        label: str,
        num_prompts: int,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._num_prompts = num_prompts
        self._ledger = ledger
        self._clock = clock
        self._started: float | None = None
        self._lock = threading.Lock()
        self._running: dict[str, tuple[TokenCounts, int]] = {}
        self._num_done = self._num_failed = self._num_ran = 0
        self._last_report = clock()
        self._num_solved: int | None = None
        self._finished = TokenCounts()

    def report(self, sample_id: str, counts: TokenCounts, num_alive: int) -> None:
        """A running prompt's counts so far, and its sequences that have not ended."""
        with self._lock:
            self._last_report = self._clock()
            if self._started is None:
                self._started = self._last_report
            self._running[sample_id] = (counts, num_alive)

    def finish(self, sample_id: str, *, solved: bool | None) -> None:
        """A prompt has ended, with the counts of its last report if it ran in this session.

        Args:
            sample_id: of the prompt.
            solved: whether a sequence of it is correct; None if none was judged.
        """
        with self._lock:
            self._end(sample_id)
            self._num_done += 1
            if solved is not None:
                self._num_solved = (self._num_solved or 0) + solved

    def fail(self, sample_id: str) -> TokenCounts:
        """A prompt has failed; the counts of its last report."""
        with self._lock:
            self._num_failed += 1
            return self._end(sample_id)

    def _end(self, sample_id: str) -> TokenCounts:
        self._last_report = self._clock()
        self._num_ran += sample_id in self._running
        counts, _ = self._running.pop(sample_id, (TokenCounts(), 0))
        self._finished += counts
        return counts

    @property
    def last_report(self) -> float:
        """Time at which a prompt last began, reported, finished or failed."""
        with self._lock:
            return self._last_report

    def snapshot(self) -> Snapshot:
        """The present progress of the cell."""
        with self._lock:
            counts, num_alive = self._finished, 0
            for running_counts, alive in self._running.values():
                counts += running_counts
                num_alive += alive
            now = self._clock()
            # Spent is read first, so that sequences taken in between count as reserved.
            spent, free = self._ledger.spent, self._ledger.free
            return Snapshot(
                label=self._label,
                num_done=self._num_done,
                num_failed=self._num_failed,
                num_ran=self._num_ran,
                num_running=len(self._running),
                num_prompts=self._num_prompts,
                num_solved=self._num_solved,
                num_alive=num_alive,
                spent=spent,
                reserved=self._ledger.total - spent - free,
                free=free,
                generated=counts.generated,
                cached_share=counts.cached / counts.prompt if counts.prompt else 0.0,
                seconds=now - (now if self._started is None else self._started),
            )


class Silence:
    """Due when no prompt has reported for a minute, and then after twice as long each time.

    Args:
        clock: that of the meters.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_report = -math.inf
        self._bound = SILENT_SECONDS

    def due(self, last_report: float) -> float | None:
        """Seconds without a report, when a line is due; else None.

        Args:
            last_report: time of the last report, by the clock.
        """
        if last_report > self._last_report:
            self._last_report, self._bound = last_report, SILENT_SECONDS
        seconds = self._clock() - self._last_report
        if seconds < self._bound:
            return None
        self._bound *= 2
        return seconds
