"""A table of faults and their effect on the prompts of a client, tried on the real runtime.

    python -m tests.faults.client_table [--only NAME ...]

A row has 32 prompts, or several times as many, that grow at once by seven kinds of methods. Whole
greedy trees are compared with those of an undisturbed run, of which partial ones must be a part.
After every fault the servers are asked what they still run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eager_sgl import AsyncClient, Client, FullParallel
from tests.faults.proxy import QUICK, fault_proxy
from tests.faults.servers import Server
from tests.faults.subject import API_KEY
from tests.faults.work import METHODS, PROMPTS, SAMPLED, Outcome, Tally, Trees

NUM_CANCELLED = 20
STOPPED_SECONDS = 30.0
IDLE_LIMIT = 30.0
Outcomes = list[tuple[int, Outcome]]


@dataclass
class Bench:
    """The servers, and what undisturbed prompts look like.

    Attributes:
        num_servers: that rows with several servers use.
        trees: of undisturbed greedy prompts.
        seconds: of undisturbed prompts.
    """

    folder: Path
    servers: list[Server] = field(default_factory=list)
    trees: Trees = field(default_factory=dict)
    seconds: float = 0.0

    def start(self, number: int) -> list[str]:
        """The URLs of a number of servers, which are started if they do not run."""
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
        notes: further facts, in words.
    """

    def __init__(self, bench: Bench, number: int = 1) -> None:
        self.urls = bench.start(number)
        self.servers = bench.servers[:number]
        self.tally = Tally(bench.trees)
        self.notes: list[str] = []
        self._decoded_before = self._decoded()
        self._began = time.monotonic()
        self._seconds = 0.0
        self._left = 0
        self._idle_after: float | None = 0.0

    def has_begun(self) -> None:
        """The fault happens now."""
        self._began = time.monotonic()

    def ends(self) -> None:
        """The client has returned: nothing of it may run any more."""
        self._seconds = max(self._seconds, time.monotonic() - self._began)
        self._left = max(self._left, self._running())
        waits = [server.seconds_until_idle(IDLE_LIMIT) for server in self.servers]
        known = [wait for wait in [self._idle_after, *waits] if wait is not None]
        self._idle_after = max(known) if len(known) > len(waits) else None

    def _running(self) -> int:
        return sum(server.num_running() or 0 for server in self.servers)

    def _decoded(self) -> int | None:
        decoded = [server.num_decoded() for server in self.servers]
        known = [number for number in decoded if number is not None]
        return sum(known) if len(known) == len(decoded) else None

    def line(self, title: str) -> str:
        """The row, in Markdown."""
        tally, before, after = self.tally, self._decoded_before, self._decoded()
        decoded = "–" if before is None or after is None or after < before else after - before
        still = "never" if self._idle_after is None else f"{self._idle_after:.1f}"
        notes = [*self.notes, *tally.errors, *tally.faults[:3]]
        cells = (
            title,
            f"{tally.whole} / {tally.partial} / {tally.failed}",
            tally.lost,
            tally.doubled,
            len(tally.faults),
            tally.num_counted,
            decoded,
            f"{self._left}, {self._running()}",
            f"{self._seconds:.1f}",
            still,
            "; ".join(notes).replace("|", "/"),
        )
        return f"| {' | '.join(map(str, cells))} |"


HEADER = (
    "fault",
    "whole / partial / failed",
    "lost",
    "doubled",
    "unsound",
    "tokens counted",
    "decoded",
    "left running: at the end, later",
    "seconds from the fault to the end",
    "until idle",
    "notes",
)
Scenario = Callable[[Bench], Row]
Fault = Callable[[AsyncClient], Coroutine[Any, Any, None]]


async def _mapped(client: AsyncClient, **limits: Any) -> Outcomes:
    """The outcomes of all prompts."""
    items = client.map(PROMPTS, METHODS, **limits)
    return [(item.index, item.outcome) async for item in items]


def _grown(
    bench: Bench, urls: Sequence[str], row: Row, fault: Fault | None = None, **limits: Any
) -> Row:
    """Let all prompts grow while something goes wrong."""

    async def scenario() -> None:
        async with AsyncClient(urls, api_key=API_KEY) as client:
            row.has_begun()
            growing = asyncio.create_task(_mapped(client, **limits))
            if fault is not None:
                await fault(client)
            row.tally.add(await growing)
            row.ends()

    asyncio.run(scenario())
    _check_texts(bench, row)
    return row


def _check_texts(bench: Bench, row: Row) -> None:
    alive = [server.url for server in bench.servers if server.num_running() is not None]
    if alive:
        with Client(alive[0], api_key=API_KEY) as client:
            row.tally.check_texts(client.decode)


def undisturbed(bench: Bench) -> Row:
    row = Row(bench)
    began = time.monotonic()
    _grown(bench, row.urls, row)
    bench.trees, bench.seconds = row.tally.trees, time.monotonic() - began
    return row


def cancelled(bench: Bench) -> Row:
    """The tasks of all prompts are cancelled at the same random instant; twenty times."""
    row, rng = Row(bench), random.Random(1)

    async def scenario() -> None:
        async with AsyncClient(row.urls, api_key=API_KEY) as client:
            for _ in range(NUM_CANCELLED):
                pairs = zip(PROMPTS, METHODS, strict=True)
                tasks = [asyncio.create_task(client.generate(*pair)) for pair in pairs]
                await asyncio.sleep(rng.uniform(0.0, bench.seconds))
                row.has_begun()
                for task in tasks:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                row.ends()
                row.tally.add(list(enumerate(outcomes)))

    asyncio.run(scenario())
    _check_texts(bench, row)
    return row


def left(bench: Bench) -> Row:
    """The streams of all prompts are left after random numbers of events."""
    row, rng = Row(bench), random.Random(2)

    async def leave(client: AsyncClient, index: int) -> tuple[int, Outcome]:
        async with client.stream(PROMPTS[index], METHODS[index]) as stream:
            num_events = rng.randrange(1, 200)
            async for number, _ in _numbered(stream):
                if number == num_events:
                    break
        assert stream.result is not None, "a stream that was begun has a result"
        return index, stream.result

    async def scenario() -> None:
        async with AsyncClient(row.urls, api_key=API_KEY) as client:
            row.has_begun()
            leaving = (leave(client, index) for index in range(len(PROMPTS)))
            row.tally.add(await asyncio.gather(*leaving))
            row.ends()

    asyncio.run(scenario())
    _check_texts(bench, row)
    return row


async def _numbered(items: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
    numbers = itertools.count(1)
    async for item in items:
        yield next(numbers), item


def _limited(**limits: Any) -> Scenario:
    def scenario(bench: Bench) -> Row:
        row = Row(bench)
        return _grown(bench, row.urls, row, **limits)

    return scenario


def interrupted(bench: Bench) -> Row:
    """Ctrl-C in a synchronous program that generates 32 sequences of a prompt."""
    row = Row(bench)
    with Client(row.urls, api_key=API_KEY) as client:

        def press() -> None:
            row.has_begun()
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(bench.seconds / 3, press)
        timer.start()
        outcome: Outcome
        try:
            outcome = client.generate(PROMPTS[5], FullParallel(SAMPLED, len(PROMPTS)))
        except KeyboardInterrupt as error:
            outcome = error
        row.ends()
        timer.join()
    row.tally.add([(5, outcome)])
    row.tally.num_prompts = 1
    _check_texts(bench, row)
    return row


def killed(bench: Bench) -> Row:
    """The only server is killed in the middle, and started again afterwards."""
    row = Row(bench)

    async def fault(client: AsyncClient) -> None:
        await asyncio.sleep(bench.seconds / 3)
        row.servers[0].kill()
        row.has_begun()

    _grown(bench, row.urls, row, fault)
    row.servers[0].restart()
    row.notes.insert(0, "later, restarted")
    return row


def replica_killed(bench: Bench) -> Row:
    """A replica is killed with its trees, started again, and gets trees again."""
    row = Row(bench, 2)
    victim = row.servers[1]

    async def scenario() -> None:
        async with AsyncClient(row.urls, api_key=API_KEY) as client:
            growing = asyncio.create_task(_mapped(client))
            await asyncio.sleep(bench.seconds / 3)
            row.notes.append(f"{await _num_trees(client, victim.url)} trees on it")
            victim.kill()
            row.has_begun()
            row.tally.add(await growing)
            row.ends()
            await asyncio.to_thread(victim.restart)
            async with asyncio.timeout(60):
                await _until_taken_in(client, row)
            again = asyncio.create_task(_mapped(client))
            await asyncio.sleep(bench.seconds / 3)
            row.notes.append(f"then {await _num_trees(client, victim.url)} trees on it")
            row.tally.add(await again)

    asyncio.run(scenario())
    _check_texts(bench, row)
    return row


async def _num_trees(client: AsyncClient, url: str) -> int:
    replicas = (await client.replicas())._fleet.replicas
    return sum(len(replica.leases) for replica in replicas if replica.url == url)


async def _until_taken_in(client: AsyncClient, row: Row) -> None:
    began, replicas = time.monotonic(), await client.replicas()
    while replicas.down:
        await asyncio.sleep(0.05)
    row.notes.append(f"taken in after {time.monotonic() - began:.1f} s")


def replica_stopped(bench: Bench) -> Row:
    """A replica is stopped for half a minute, and taken in again."""
    row = Row(bench, 2)
    victim = row.servers[1]

    async def scenario() -> None:
        async with AsyncClient(row.urls, api_key=API_KEY) as client:
            growing = asyncio.create_task(_mapped(client))
            await asyncio.sleep(bench.seconds / 3)
            row.notes.append(f"{await _num_trees(client, victim.url)} trees on it")
            with victim.stopped():
                row.has_begun()
                await asyncio.sleep(STOPPED_SECONDS)
                row.notes.append(f"{'all' if growing.done() else 'not all'} ended while stopped")
            row.tally.add(await growing)
            async with asyncio.timeout(60):
                await _until_taken_in(client, row)
            row.ends()

    asyncio.run(scenario())
    _check_texts(bench, row)
    return row


def _proxied(probability: float, *kinds: str, **limits: Any) -> Scenario:
    """A share of the answers is replaced."""

    def scenario(bench: Bench) -> Row:
        row = Row(bench)
        with fault_proxy(row.urls[0], probability, seed=7, kinds=kinds) as (url, proxy):
            _grown(bench, [url], row, **limits)
        row.notes.append(f"{sum(proxy.injected.values())} of {proxy.num_requests} requests")
        return row

    return scenario


def _shares(kind: str, words: str) -> dict[str, tuple[str, Scenario]]:
    return {
        f"{kind}_{share}": (f"{share:.0%} of the answers: {words}", _proxied(share, kind))
        for share in (0.05, 0.2)
    }


SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "undisturbed": ("none", undisturbed),
    "cancel": (f"cancelled, at {NUM_CANCELLED} random instants", cancelled),
    "leave": ("streams left after 1 to 200 events", left),
    "timeout": ("deadline of 3 s", _limited(timeout=3.0)),
    "max_tokens": ("at most 100 tokens", _limited(max_tokens=100)),
    "interrupt": ("Ctrl-C", interrupted),
    "cut": ("half of the answers are cut", _proxied(0.5, "broken_stream", max_tokens=2000)),
    **_shares("500", "HTTP 500"),
    **_shares("503", "HTTP 503"),
    **_shares("garbage", "garbage"),
    **_shares("truncated", "truncated"),
    "mixed": ("20% of the answers: any of these faults", _proxied(0.2, *QUICK)),
    "kill": ("the only server killed", killed),
    "replica_kill": ("one of two replicas killed", replica_killed),
    "replica_stop": (f"one of two replicas stopped for {STOPPED_SECONDS:.0f} s", replica_stopped),
}


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        try:
            yield bench
        finally:
            bench.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A table of faults and their effect on prompts.")
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    names = ["undisturbed", *(name for name in parser.parse_args().only if name != "undisturbed")]
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}", flush=True)
    with _bench() as bench:
        for name in names:
            title, scenario = SCENARIOS[name]
            print(scenario(bench).line(title), flush=True)


if __name__ == "__main__":
    main()
