"""The rows of the table of faults: what became of prompts, and of their requests on the servers."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eager_sgl import AsyncClient, Client
from tests.faults.servers import Server
from tests.faults.subject import API_KEY
from tests.faults.work import Tally, Trees

__all__ = ["HEADER", "Bench", "Row", "bench_of_servers"]

IDLE_LIMIT = 30.0


@dataclass
class Bench:
    """The servers, and what undisturbed prompts look like.

    Attributes:
        folder: of their logs.
        servers: that were started so far.
        trees: of undisturbed greedy prompts.
        seconds: of undisturbed prompts.
    """

    folder: Path
    servers: list[Server] = field(default_factory=list)
    trees: Trees = field(default_factory=dict)
    seconds: float = 0.0

    def start(self, number: int) -> list[str]:
        """The URLs of a number of servers, which are started if they do not run."""
        for server in self.servers[:number]:
            if server.num_running() is None:
                server.restart()
        while len(self.servers) < number:
            self.servers.append(Server(self.folder / f"{len(self.servers)}.log"))
        return [server.url for server in self.servers[:number]]

    def close(self) -> None:
        for server in self.servers:
            server.close()


class Row:
    """The outcome of a fault.

    Args:
        bench: its servers.
        number: of servers that the row uses.

    Attributes:
        tally: of the outcomes.
        seconds: from the fault, or from the start, to the end; the longest.
        decoded: tokens that the servers decoded meanwhile; None where one of them has ended.
        notes: further facts, in words.
    """

    def __init__(self, bench: Bench, number: int = 1) -> None:
        self.bench, self.urls = bench, bench.start(number)
        self.servers = bench.servers[:number]
        self.tally = Tally(bench.trees)
        self.notes: list[str] = []
        self.decoded: int | None = 0
        self._decoded_before: int | None = None
        self._began = time.monotonic()
        self.seconds = 0.0
        self._num_ran, self._num_left = 0, 0
        self._idle_after: float | None = 0.0

    @contextlib.asynccontextmanager
    async def client(self, *urls: str) -> AsyncIterator[AsyncClient]:
        """A connected client, whose tokens are counted from now on."""
        async with AsyncClient(urls or self.urls, api_key=API_KEY) as client:
            self.is_connected()
            yield client

    def is_connected(self) -> None:
        """Tokens decoded from now on are those of prompts."""
        self._decoded_before = self._decoded()
        self._began = time.monotonic()

    def has_begun(self) -> None:
        """The fault happens now."""
        self._began = time.monotonic()

    async def before_fault(self) -> None:
        """Count what runs; the fault happens next."""
        self._num_ran = max(self._num_ran, await asyncio.to_thread(self._running))
        self.has_begun()

    def ends(self) -> None:
        """The client has returned: nothing of it may run any more."""
        self.seconds = max(self.seconds, time.monotonic() - self._began)
        self._num_left = max(self._num_left, self._running())
        waits = [server.seconds_until_idle(IDLE_LIMIT) for server in self.servers]
        known = [wait for wait in [self._idle_after, *waits] if wait is not None]
        self._idle_after = max(known) if len(known) > len(waits) else None
        self.decoded = _difference(self._decoded_before, self._decoded())

    def _running(self) -> int:
        return sum(server.num_running() or 0 for server in self.servers)

    def _decoded(self) -> int | None:
        decoded = [server.num_decoded() for server in self.servers]
        known = [number for number in decoded if number is not None]
        return sum(known) if len(known) == len(decoded) else None

    def check_texts(self) -> None:
        """Compare the texts of the results with those of their tokens, if a server lives."""
        alive = [s.url for s in self.bench.servers if s.num_running() is not None]
        if alive:
            with Client(alive[0], api_key=API_KEY) as client:
                self.tally.check_texts(client.decode)

    @property
    def is_faulty(self) -> bool:
        """Whether results are lost, doubled or unsound, or requests were left running."""
        tally = self.tally
        return bool(tally.lost or tally.doubled or tally.faults or self._idle_after is None)

    def line(self, title: str) -> str:
        """The row, in Markdown."""
        tally = self.tally
        still = "never" if self._idle_after is None else f"{self._idle_after:.1f}"
        notes = [*self.notes, *tally.errors, *tally.faults[:3]]
        cells = (
            title,
            f"{tally.whole} / {tally.partial} / {tally.failed}",
            tally.lost,
            tally.doubled,
            len(tally.faults),
            tally.num_counted,
            "–" if self.decoded is None else self.decoded,
            f"{self._num_ran or '–'}, {self._num_left}, {self._running()}",
            f"{self.seconds:.1f}",
            still,
            "; ".join(notes).replace("|", "/"),
        )
        return f"| {' | '.join(map(str, cells))} |"


def _difference(before: int | None, after: int | None) -> int | None:
    """Of the counters of a server; None if it has ended, or was started anew."""
    return None if before is None or after is None or after < before else after - before


HEADER = (
    "fault",
    "whole / partial / failed",
    "lost",
    "doubled",
    "unsound",
    "tokens counted",
    "decoded",
    "running before the fault, at the end, later",
    "seconds from the fault to the end",
    "until idle",
    "notes",
)


@contextlib.contextmanager
def bench_of_servers() -> Iterator[Bench]:
    """A bench whose servers end with the context."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        try:
            yield bench
        finally:
            bench.close()
