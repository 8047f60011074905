"""1,000 requests to the endpoint at 200 at a time, with faults: a table of what became of them.

    python -m tests.load [--requests 1000] [--at-once 200] [--seed 1]

Kinds of answers, deadlines and disconnects are random; after half of the requests one of the two
SGLang servers is killed. The exit status is 1 if a request was neither answered nor ended as it was
told, or if something of the requests is left on the servers or in the endpoint's process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from evals.throughput.endpoint.process import EndpointProcess, Footprint
from tests.faults.rows import IDLE_LIMIT
from tests.faults.servers import Server
from tests.faults.subject import API_KEY
from tests.faults.work import PROMPTS
from tests.load.requests import KINDS, random_request
from tests.load.sending import Tally, send_all

OUTCOMES = ("answered", "deadline", "left", "refused", "broke off", "unavailable", "failed")
MORE = Footprint(megabytes=64.0, threads=2, descriptors=8)
"""What the process may have more of at the end than after the first requests."""


def main() -> None:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as name, _servers(Path(name)) as (servers, endpoint):
        rng = random.Random(options.seed)
        asked = [
            random_request(rng, endpoint.model, PROMPTS)
            for _ in range(options.requests + options.at_once)
        ]
        first = asyncio.run(
            send_all(endpoint.url, asked[options.requests :], options.at_once, lambda tally: None)
        )
        faults = [*first.faults, *_until_idle(servers, endpoint)]
        before, began = endpoint.footprint(), time.monotonic()

        def kill(tally: Tally) -> None:
            if tally.killed_at is None and tally.num_ended >= options.requests // 2:
                tally.killed_at = time.monotonic()
                servers[1].kill()

        tally = asyncio.run(
            send_all(endpoint.url, asked[: options.requests], options.at_once, kill)
        )
        seconds = time.monotonic() - began
        faults += [*tally.faults, *_until_idle(servers[:1], endpoint)]
        after = _settled(endpoint, before)
        faults += _growth(before, after)
    _print_table(tally)
    print(f"{options.requests} requests, {seconds:.0f} s, the slowest {tally.slowest:.1f} s")
    print(f"before {before}\nafter  {after}")
    print("\n".join(faults[:40]))
    sys.exit(f"{len(faults)} faults" if faults else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    return parser


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[tuple[list[Server], EndpointProcess]]:
    """Two SGLang servers, and the endpoint in front of them, which admits most of the requests."""
    servers: list[Server] = []
    try:
        for index in range(2):
            servers.append(Server(folder / f"{index}.log"))
        with EndpointProcess(
            [server.url for server in servers],
            server_key=API_KEY,
            log_path=folder / "endpoint.log",
            options=["--max-requests", "190"],
        ) as endpoint:
            yield servers, endpoint
    finally:
        for server in servers:
            server.close()


def _until_idle(servers: list[Server], endpoint: EndpointProcess) -> list[str]:
    """Wait until nothing runs; what still does after a while."""
    faults = [
        f"{server.num_running()} requests are left on {server.url}"
        for server in servers
        if server.seconds_until_idle(IDLE_LIMIT) is None
    ]
    if number := endpoint.in_flight():
        faults.append(f"the endpoint still answers {number} requests")
    return faults


def _settled(endpoint: EndpointProcess, before: Footprint) -> Footprint:
    """The footprint once idle connections are closed, or after a while."""
    deadline = time.monotonic() + IDLE_LIMIT
    while time.monotonic() < deadline and _growth(before, endpoint.footprint()):
        time.sleep(0.5)
    return endpoint.footprint()


def _growth(before: Footprint, after: Footprint) -> list[str]:
    """What has grown by more than it may."""
    rows = zip(
        ("MB", "threads", "descriptors"),
        astuple(before),
        astuple(after),
        astuple(MORE),
        strict=True,
    )
    return [
        f"{old:.0f} {name} became {new:.0f}" for name, old, new, more in rows if new > old + more
    ]


def _print_table(tally: Tally) -> None:
    names = [*OUTCOMES, *sorted({outcome for _, outcome in tally.outcomes} - set(OUTCOMES))]
    print(f"| kind | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for kind in KINDS:
        print(f"| {kind} | {' | '.join(str(tally.outcomes[kind, name]) for name in names)} |")
    totals = [sum(tally.outcomes[kind, name] for kind in KINDS) for name in names]
    print(f"| all | {' | '.join(map(str, totals))} |")


if __name__ == "__main__":
    main()
