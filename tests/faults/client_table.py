"""A table of faults and their effect on the prompts of a client, tried on the real runtime.

    python -m tests.faults.client_table [--only NAME ...]

A row has 32 prompts, or several times as many, that grow at once by seven kinds of methods. Whole
greedy trees are compared with those of an undisturbed run, of which partial ones must be a part.
After every fault the servers are asked what they still run, and how many tokens they have decoded:
a little more than the results count, since some requests ask which tokens end sequences, and since
answers that are lost are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from eager_sgl import AsyncClient, Client, FullParallel, PromptResult
from tests.faults.proxy import QUICK, fault_proxy
from tests.faults.rows import HEADER, Bench, Row, bench_of_servers
from tests.faults.subject import API_KEY
from tests.faults.work import METHODS, PROMPTS, SAMPLED, Outcome

NUM_CANCELLED = 20
NUM_INTERRUPTED = 128
STOPPED_SECONDS = 30.0
SECONDS_BEFORE = 1.0
"""From the start of all prompts to a fault in the middle of their trees."""
TAKEN_IN_LIMIT = 60.0
Outcomes = list[tuple[int, Outcome]]
Scenario = Callable[[Bench], Row]
Fault = Callable[[AsyncClient], Coroutine[Any, Any, None]]


async def _mapped(client: AsyncClient, **limits: Any) -> Outcomes:
    """The outcomes of all prompts."""
    items = client.map(PROMPTS, METHODS, **limits)
    return [(item.index, item.outcome) async for item in items]


def _grown(urls: Sequence[str], row: Row, fault: Fault | None = None, **limits: Any) -> Row:
    """Let all prompts grow while something goes wrong."""

    async def scenario() -> None:
        async with row.client(*urls) as client:
            growing = asyncio.create_task(_mapped(client, **limits))
            if fault is not None:
                await fault(client)
            row.tally.add(await growing)
            row.ends()

    asyncio.run(scenario())
    row.check_texts()
    return row


def undisturbed(bench: Bench) -> Row:
    row = Row(bench)
    _grown(row.urls, row)
    bench.trees, bench.seconds = row.tally.trees, row.seconds
    return row


def cancelled(bench: Bench) -> Row:
    """The tasks of all prompts are cancelled at the same random instant; twenty times."""
    row, rng = Row(bench), random.Random(1)

    async def scenario() -> None:
        async with row.client() as client:
            for _ in range(NUM_CANCELLED):
                pairs = zip(PROMPTS, METHODS, strict=True)
                tasks = [asyncio.create_task(client.generate(*pair)) for pair in pairs]
                await asyncio.sleep(rng.uniform(0.0, bench.seconds))
                await row.before_fault()
                for task in tasks:
                    task.cancel()
                outcomes = [await _outcome_of(task) for task in tasks]
                row.ends()
                row.tally.add(list(enumerate(outcomes)))

    asyncio.run(scenario())
    row.check_texts()
    return row


async def _outcome_of(task: asyncio.Task[PromptResult]) -> Outcome:
    """As `gather` does, which drops the partial result of a task that was cancelled."""
    try:
        return await task
    except (Exception, asyncio.CancelledError) as error:
        return error


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
        async with row.client() as client:
            leaving = (leave(client, index) for index in range(len(PROMPTS)))
            row.tally.add(await asyncio.gather(*leaving))
            row.ends()

    asyncio.run(scenario())
    row.check_texts()
    return row


async def _numbered(items: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
    numbers = itertools.count(1)
    async for item in items:
        yield next(numbers), item


def _limited(**limits: Any) -> Scenario:
    def scenario(bench: Bench) -> Row:
        row = Row(bench)
        return _grown(row.urls, row, **limits)

    return scenario


def interrupted(bench: Bench) -> Row:
    """Ctrl-C in a synchronous program that generates many sequences of a prompt."""
    row = Row(bench)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with Client(row.urls, api_key=API_KEY) as client:
        row.is_connected()

        def press() -> None:
            asyncio.run(row.before_fault())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Timer(SECONDS_BEFORE, press).start()
        outcome: Outcome
        try:
            outcome = client.generate(PROMPTS[5], FullParallel(SAMPLED, NUM_INTERRUPTED))
            time.sleep(10.0)
        except KeyboardInterrupt as error:
            outcome = error
        row.ends()
    assert isinstance(outcome, KeyboardInterrupt), f"{outcome} was not interrupted"
    row.tally.add([(5, outcome)])
    row.tally.num_prompts = 1
    row.check_texts()
    return row


def killed(bench: Bench) -> Row:
    """The only server is killed in the middle."""
    row = Row(bench)

    async def fault(client: AsyncClient) -> None:
        await asyncio.sleep(SECONDS_BEFORE)
        await row.before_fault()
        row.servers[0].kill()

    return _grown(row.urls, row, fault)


def replica_killed(bench: Bench) -> Row:
    """A replica is killed with its trees, started again, and gets trees again."""
    row = Row(bench, 2)
    victim = row.servers[1]

    async def scenario() -> None:
        async with row.client() as client:
            growing = asyncio.create_task(_mapped(client))
            await asyncio.sleep(SECONDS_BEFORE)
            row.notes.append(f"{await _num_trees(client, victim.url)} trees on it")
            await row.before_fault()
            victim.kill()
            row.tally.add(await growing)
            row.ends()
            await asyncio.to_thread(victim.restart)
            await _until_taken_in(client, row)
            again = asyncio.create_task(_mapped(client))
            await asyncio.sleep(SECONDS_BEFORE)
            row.notes.append(f"then {await _num_trees(client, victim.url)} trees on it")
            row.tally.add(await again)

    asyncio.run(scenario())
    row.check_texts()
    return row


async def _num_trees(client: AsyncClient, url: str) -> int:
    replicas = (await client.replicas())._fleet.replicas
    return sum(len(replica.leases) for replica in replicas if replica.url == url)


async def _until_taken_in(client: AsyncClient, row: Row) -> None:
    began, replicas = time.monotonic(), await client.replicas()
    while replicas.down and time.monotonic() - began < TAKEN_IN_LIMIT:
        await asyncio.sleep(0.05)
    row.tally.faults += [f"{url} is down: {error}" for url, error in replicas.down.items()]
    row.notes.append(f"taken in after {time.monotonic() - began:.1f} s")


def replica_stopped(bench: Bench) -> Row:
    """A replica is stopped for half a minute, and taken in again."""
    row = Row(bench, 2)
    victim = row.servers[1]

    async def scenario() -> None:
        async with row.client() as client:
            growing = asyncio.create_task(_mapped(client))
            await asyncio.sleep(SECONDS_BEFORE)
            row.notes.append(f"{await _num_trees(client, victim.url)} trees on it")
            await row.before_fault()
            with victim.stopped():
                began = time.monotonic()
                await asyncio.wait({growing}, timeout=STOPPED_SECONDS)
                ended = time.monotonic() - began
                row.notes.append(f"{'all' if growing.done() else 'not all'} ended in {ended:.1f} s")
                await asyncio.sleep(STOPPED_SECONDS - ended)
            row.tally.add(await growing)
            await _until_taken_in(client, row)
            row.ends()

    asyncio.run(scenario())
    row.check_texts()
    return row


def _proxied(probability: float, *kinds: str, **limits: Any) -> Scenario:
    """A share of the answers is replaced."""

    def scenario(bench: Bench) -> Row:
        row = Row(bench)
        with fault_proxy(row.urls[0], 0.0, seed=7, kinds=kinds) as (url, proxy):

            async def fault(client: AsyncClient) -> None:
                proxy.probability = probability

            _grown([url], row, fault, **limits)
        row.notes.append(f"{sum(proxy.injected.values())} of {proxy.num_requests} answers")
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
    "replica_kill": ("one of two replicas killed", replica_killed),
    "replica_stop": (f"one of two replicas stopped for {STOPPED_SECONDS:.0f} s", replica_stopped),
    "cut": (
        "30% of the answers: cut inside a stream",
        _proxied(0.3, "broken_stream", max_tokens=2000),
    ),
    **_shares("500", "HTTP 500"),
    **_shares("503", "HTTP 503"),
    **_shares("garbage", "garbage"),
    **_shares("truncated", "truncated"),
    "mixed": ("20% of the answers: any of these faults", _proxied(0.2, *QUICK)),
    "kill": ("the only server killed", killed),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A table of faults and their effect on prompts.")
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    chosen = {*parser.parse_args().only, "undisturbed"}
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}", flush=True)
    num_faulty = 0
    with bench_of_servers() as bench:
        for name, (title, scenario) in SCENARIOS.items():
            if name in chosen:
                row = scenario(bench)
                num_faulty += row.is_faulty
                print(row.line(title), flush=True)
    sys.exit(f"{num_faulty} rows are not as they must be" if num_faulty else 0)


if __name__ == "__main__":
    main()
