"""What a run shows while it works: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from eager_sgl.core import TokenCounts

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Meter", "PlainView", "Snapshot", "TerminalView", "View", "open_view"]

PLAIN_SECONDS = 5.0
BAR_WIDTH = 10


@dataclass(frozen=True)
class Snapshot:
    """Where a method stands.

    Attributes:
        num_alive: sequences still running.
        generated: tokens decoded so far, by running prompts too.
        cached_share: of the prompt tokens sent so far, served by the radix tree; 0 before any.
        seconds: since the method began.
    """

    method: str
    num_done: int
    num_prompts: int
    num_alive: int
    generated: int
    cached_share: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Decoded, on average since the method began."""
        return self.generated / self.seconds if self.seconds > 0 else 0.0

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.method}: {self.num_done}/{self.num_prompts} prompts, "
            f"{self.num_alive} sequences alive, {self.tokens_per_second:,.0f} token/s, "
            f"cache {self.cached_share:.1%}, {self.seconds:.0f} s"
        )


class Meter:
    """Adds up what the prompts of one method report, from any thread.

    Args:
        clock: seconds that never go back.
    """

    def __init__(
        self, method: str, num_prompts: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._method = method
        self._num_prompts = num_prompts
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._running: dict[str, tuple[TokenCounts, int]] = {}
        self._num_done = 0
        self._finished = TokenCounts()

    def report(self, sample_id: str, counts: TokenCounts, num_alive: int) -> None:
        """A running prompt's counts so far, and its sequences that have not ended."""
        with self._lock:
            self._running[sample_id] = (counts, num_alive)

    def finish(self, sample_id: str, counts: TokenCounts) -> None:
        """A prompt has ended with these counts."""
        with self._lock:
            self._running.pop(sample_id, None)
            self._finished += counts
            self._num_done += 1

    def snapshot(self) -> Snapshot:
        """Where the method stands now."""
        with self._lock:
            counts, num_alive = self._finished, 0
            for running_counts, alive in self._running.values():
                counts += running_counts
                num_alive += alive
            return Snapshot(
                method=self._method,
                num_done=self._num_done,
                num_prompts=self._num_prompts,
                num_alive=num_alive,
                generated=counts.generated,
                cached_share=counts.cached / counts.prompt if counts.prompt else 0.0,
                seconds=self._clock() - self._started,
            )


class View(Protocol):
    """Where progress goes; used by the main thread only. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def show(self, snapshot: Snapshot) -> None:
        """Show where things stand; called several times a second."""


class PlainView:
    """Lines for files and pipes, one every few seconds and one at the end of a method."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._method = ""
        self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.flush()

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.method != self._method:
            self._method, self._last = snapshot.method, self._clock()
        complete = snapshot.num_done == snapshot.num_prompts
        if complete or self._clock() - self._last >= PLAIN_SECONDS:
            self._last = self._clock()
            self.say(snapshot.describe())


class TerminalView:
    """A live line under the lines that stay."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.num_done == snapshot.num_prompts:
            self._live.update("", refresh=True)
            self.say(snapshot.describe())
        else:
            line = f"{_bar(snapshot.num_done, snapshot.num_prompts)} {snapshot.describe()}"
            self._live.update(line, refresh=True)


def _bar(num_done: int, num_all: int) -> str:
    filled = BAR_WIDTH * num_done // num_all
    return "━" * filled + "─" * (BAR_WIDTH - filled)


def open_view(stream: TextIO) -> View:
    """The view that suits the stream."""
    return TerminalView(stream) if stream.isatty() else PlainView(stream)
