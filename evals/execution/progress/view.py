"""The progress of a run: live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from evals.execution.progress.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["PlainView", "TerminalView", "View", "open_view"]

PLAIN_SECONDS = 5.0
BAR_WIDTH = 10


class View(Protocol):
    """Prints progress; used by the main thread only. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def say(self, text: str) -> None:
        """Print a permanent line."""

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Show the progress of the cells that run together; called several times a second."""


class PlainView:
    """Lines for files and pipes: every few seconds if a cell has changed, and once at its end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last = clock()
        self._shown: dict[str, Snapshot] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.flush()

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        _say_ends(self, self._ended, snapshots)
        if self._clock() - self._last < PLAIN_SECONDS:
            return
        for snapshot in snapshots:
            if snapshot.num_running and not snapshot.complete and self._has_changed(snapshot):
                self._last = self._clock()
                self._shown[snapshot.label] = snapshot.without_time
                self.say(snapshot.describe())

    def _has_changed(self, snapshot: Snapshot) -> bool:
        return self._shown.get(snapshot.label) != snapshot.without_time


class TerminalView:
    """Live lines under the permanent lines."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live = Live(console=self._console, auto_refresh=False, transient=True)
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        _say_ends(self, self._ended, snapshots)
        lines = [
            f"{_bar(snapshot.num_prompts - snapshot.num_left, snapshot.num_prompts)} "
            f"{snapshot.describe()}"
            for snapshot in snapshots
            if not snapshot.complete
        ]
        self._live.update("\n".join(lines), refresh=True)


def _say_ends(view: View, ended: set[str], snapshots: Sequence[Snapshot]) -> None:
    """Print every complete cell once; `ended` has the labels of those printed before."""
    for snapshot in snapshots:
        if snapshot.complete and snapshot.label not in ended:
            ended.add(snapshot.label)
            view.say(snapshot.describe())


def _bar(num_done: int, num_all: int) -> str:
    filled = BAR_WIDTH * num_done // num_all
    return "━" * filled + "─" * (BAR_WIDTH - filled)


def open_view(stream: TextIO) -> View:
    """A view for the kind of the stream."""
    return TerminalView(stream) if stream.isatty() else PlainView(stream)
