"""The progress of the cells of a run: the reports of their prompts, added up."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from eager_sgl import Ledger, TokenCounts
from evals.execution.progress.snapshot import Snapshot

__all__ = ["Meter", "Silence"]

RECENT_SECONDS = 30.0
SILENT_SECONDS = 60.0
FIRST_PARTS_SECONDS = 5.0
"""After the first token, until the first parts of all running sequences have arrived."""


class _Pace:
    """The seconds during which prompts run, and the rate of their tokens.

    Tokens come in parts. It is not known when the first ones were begun, since the server reads
    prompts before; so the rate is that of the parts after them.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._num_running = 0
        self.seconds = self.prompt_seconds = 0.0
        self._first_token: float | None = None
        self._first_parts = 0.0
        self.num_first_tokens = 0
        self._points = deque([(0.0, 0)])

    def advance(self, now: float) -> None:
        """Count the time until now."""
        elapsed, self._now = now - self._now, now
        self.seconds += elapsed if self._num_running else 0.0
        self.prompt_seconds += elapsed * self._num_running

    def change(self, now: float, num_running: int) -> None:
        """A prompt has begun or ended; how many run from now on."""
        self.advance(now)
        self._num_running = num_running

    def decode(self, now: float, num_tokens: int) -> None:
        """Tokens have arrived; fewer than none where an answer was lost."""
        if not num_tokens:
            return
        self.advance(now)
        if self._first_token is None:
            self._first_token = self.seconds
        if self.seconds <= self._first_token + FIRST_PARTS_SECONDS:
            self._first_parts = self.seconds
            self.num_first_tokens += num_tokens

    @property
    def decoding_seconds(self) -> float:
        """Since the first parts."""
        return 0.0 if self._first_token is None else self.seconds - self._first_parts

    def recent_rate(self, generated: int) -> float:
        """Tokens per second, back to the last call that is `RECENT_SECONDS` ago."""
        if not self._num_running:
            return 0.0
        points = self._points
        points.append((self.seconds, generated))
        while points[1][0] <= self.seconds - RECENT_SECONDS:
            points.popleft()
        start, before = points[0]
        # The tokens of an answer that was lost are not counted any more.
        return max(generated - before, 0) / (self.seconds - start) if self.seconds > start else 0.0


class Meter:
    """Adds up the reports of the prompts of one cell, from any thread.

    Args:
        label: of the cell.
        ledger: its budget.
        max_length: length limit of a sequence in tokens.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        label: str,
        num_prompts: int,
        ledger: Ledger,
        max_length: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._num_prompts = num_prompts
        self._ledger = ledger
        self._max_length = max_length
        self._clock = clock
        self._lock = threading.Lock()
        self._max_sequences: dict[str, int] = {}
        self._shared_tokens: int | None = None
        self._running: dict[str, tuple[TokenCounts, int]] = {}
        self._num_done = self._num_failed = self._num_ran = 0
        self._last_report = clock()
        self._num_solved: int | None = None
        self._finished = TokenCounts()
        self._pace = _Pace(self._last_report)

    def share(self, num_tokens: int) -> None:
        """The prompts share a number of tokens, those of earlier sessions left out."""
        with self._lock:
            self._shared_tokens = num_tokens

    def expect(self, sample_id: str, max_sequences: int) -> None:
        """A prompt will run, and generate a number of sequences at most."""
        with self._lock:
            self._max_sequences[sample_id] = max_sequences

    def report(self, sample_id: str, counts: TokenCounts, num_alive: int) -> None:
        """A running prompt's counts so far, and its sequences that have not ended."""
        with self._lock:
            self._last_report = self._clock()
            if sample_id not in self._running:
                self._pace.change(self._last_report, len(self._running) + 1)
            before, _ = self._running.get(sample_id, (TokenCounts(), 0))
            self._running[sample_id] = (counts, num_alive)
            self._pace.decode(self._last_report, counts.generated - before.generated)

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
        self._max_sequences.pop(sample_id, None)
        self._num_ran += sample_id in self._running
        counts, _ = self._running.pop(sample_id, (TokenCounts(), 0))
        self._pace.change(self._last_report, len(self._running))
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
            self._pace.advance(self._clock())
            counts = [self._finished, *(counts for counts, _ in self._running.values())]
            generated, num_sent = sum(c.generated for c in counts), sum(c.prompt for c in counts)
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
                num_alive=sum(num_alive for _, num_alive in self._running.values()),
                max_sequences=self._known_max_sequences(),
                max_length=self._max_length,
                shared_tokens=self._shared_tokens,
                spent=spent,
                reserved=self._ledger.total - spent - free,
                free=free,
                generated=generated,
                num_first_tokens=self._pace.num_first_tokens,
                recent_rate=self._pace.recent_rate(generated),
                cached_share=sum(c.cached for c in counts) / num_sent if num_sent else 0.0,
                seconds=self._pace.seconds,
                decoding_seconds=self._pace.decoding_seconds,
                prompt_seconds=self._pace.prompt_seconds,
            )

    def _known_max_sequences(self) -> int | None:
        """Of all prompts that have not ended; None while some have no limit yet."""
        num_left = self._num_prompts - self._num_done - self._num_failed
        known = self._max_sequences
        return sum(known.values()) if len(known) == num_left else None


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
