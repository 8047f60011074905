"""Sends requests, many at a time, and counts what became of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.load.requests import Asked, events_fault, whole_fault

__all__ = ["Tally", "send_all"]

ANSWER_LIMIT = 240.0
_ROUTE = "/v1/chat/completions"
_TOLD = {429: "refused", 503: "unavailable", 502: "broke off", 504: "deadline"}


@dataclass
class Tally:
    """What became of requests.

    Attributes:
        outcomes: counts by kind and outcome.
        faults: what was wrong, a line each.
        num_ended: requests that have ended.
        killed_at: when a server was killed, by the monotonic clock; None before.
        slowest: seconds of the slowest request.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    num_ended: int = 0
    killed_at: float | None = None
    slowest: float = 0.0

    def add(self, asked: Asked, outcome: str, fault: str | None, began: float) -> None:
        """Count a request that has ended."""
        self.num_ended += 1
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.outcomes[asked.kind, outcome] += 1
        fault = fault or self._unexpected(asked, outcome, began)
        if fault is not None:
            self.faults.append(f"{asked.kind}: {fault}")

    def _unexpected(self, asked: Asked, outcome: str, began: float) -> str | None:
        """Why an outcome must not be; None if it may."""
        if outcome == "deadline" and not asked.has_deadline:
            return "ended by a deadline that it does not have"
        if outcome == "unavailable":
            return "no server was available, although one lives"
        if outcome == "broke off" and (asked.is_tree or not self._saw_death(began)):
            return "broke off, although its server lived or it could move"
        return None

    def _saw_death(self, began: float) -> bool:
        return self.killed_at is not None and began < self.killed_at + 10.0


async def send_all(
    url: str, requests: Sequence[Asked], at_once: int, on_ended: Callable[[Tally], None]
) -> Tally:
    """Send all requests; one that is refused with 429 is sent again after a second.

    Args:
        url: base URL of the endpoint.
        requests: in their order.
        at_once: requests at the same time.
        on_ended: called whenever one has ended.
    """
    tally, waiting = Tally(), iter(requests)

    async def work(session: aiohttp.ClientSession) -> None:
        for asked in waiting:
            while await _send(session, asked, tally):
                await asyncio.sleep(1.0)
            on_ended(tally)

    timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(at_once)))
    return tally


async def _send(session: aiohttp.ClientSession, asked: Asked, tally: Tally) -> bool:
    """Send a request once; whether it was refused and has to be sent again."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(asked.leaves_after):
            status, data = await _answer(session, asked)
    except TimeoutError:
        is_left = asked.leaves_after is not None
        tally.add(asked, "left" if is_left else "hung", None if is_left else "no answer", began)
        return False
    except aiohttp.ClientError as error:
        tally.add(asked, "lost", f"{type(error).__name__}: {error}", began)
        return False
    if status == 429:
        tally.outcomes[asked.kind, "refused"] += 1
        return True
    tally.add(asked, *_judged(asked, status, data), began)
    return False


async def _answer(session: aiohttp.ClientSession, asked: Asked) -> tuple[int, bytes]:
    async with session.post(_ROUTE, json=asked.body) as reply:
        return reply.status, await reply.read()


def _judged(asked: Asked, status: int, data: bytes) -> tuple[str, str | None]:
    """The outcome of an answer, and its fault."""
    if status != 200:
        message = json.loads(data)["error"]["message"]
        outcome = _TOLD.get(status, "failed")
        return outcome, f"{status}: {message}" if outcome == "failed" else None
    if not asked.is_stream:
        return "answered", whole_fault(asked, data)
    fault, error = events_fault(asked, data)
    if error is None:
        return "answered", fault
    codes = {"deadline": "deadline", "unavailable": "unavailable"}
    is_server = error["type"] == "server_error" and error["code"] != "internal"
    outcome = codes.get(error["code"], "broke off" if is_server else "failed")
    return outcome, f"an event: {error['message']}" if outcome == "failed" else fault
