"""Requests to OpenAI's routes, many at a time, and what they took."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from eager_sgl.engine.protocol import Json

__all__ = ["Route", "ask_all", "ask_in_turn", "first_token_seconds", "order_of"]

_CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Route:
    """Where requests go.

    Attributes:
        name: in tables.
        url: base URL.
        api_key: that it requires.
    """

    name: str
    url: str
    api_key: str | None = None


def order_of(first: Route, second: Route, index: int) -> tuple[Route, Route]:
    """The order of two routes A and B in a pass: AB, BA, BA, AB, and the same again.

    Over four passes both come first and second equally often, and a machine that becomes steadily
    faster or slower favours neither.

    Args:
        index: of the pass, from 0.
    """
    return (second, first) if index % 4 in (1, 2) else (first, second)


def _session(route: Route) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {route.api_key}"} if route.api_key else {}
    return aiohttp.ClientSession(
        route.url,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=600),
    )


async def ask_all(route: Route, bodies: Sequence[Json], at_once: int) -> tuple[list[Any], float]:
    """The answers in the order of the bodies, and the seconds until all were there.

    Streams are read to their ends, and give their last bytes.

    Raises:
        aiohttp.ClientError: an answer has another status than 200.
    """
    answers: list[Any] = [None] * len(bodies)
    waiting = iter(range(len(bodies)))

    async def work(session: aiohttp.ClientSession) -> None:
        for index in waiting:
            answers[index] = await _answer(session, bodies[index])

    async with _session(route) as session:
        began = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(at_once)))
        return answers, time.perf_counter() - began


async def ask_in_turn(routes: tuple[Route, Route], bodies: Sequence[Json]) -> dict[str, float]:
    """The seconds of each route, by name, for the bodies, each of which is sent to both.

    Raises:
        aiohttp.ClientError: an answer has another status than 200.
    """
    seconds = {route.name: 0.0 for route in routes}
    async with _session(routes[0]) as first, _session(routes[1]) as second:
        sessions = dict(zip(routes, (first, second), strict=True))
        for index, body in enumerate(bodies):
            for route in order_of(*routes, index):
                began = time.perf_counter()
                await _answer(sessions[route], body)
                seconds[route.name] += time.perf_counter() - began
    return seconds


async def _answer(session: aiohttp.ClientSession, body: Json) -> Any:
    async with session.post(_CHAT, json=body) as reply:
        reply.raise_for_status()
        return (await reply.read())[-200:] if body.get("stream") else await reply.json()


async def first_token_seconds(route: Route, bodies: Sequence[Json]) -> float:
    """Median seconds until the first content of streams that are asked for one after another."""
    async with _session(route) as session:
        times = [await _first_content(session, body | {"stream": True}) for body in bodies]
    return statistics.median(times)


async def _first_content(session: aiohttp.ClientSession, body: Json) -> float:
    began, found = time.perf_counter(), None
    async with session.post(_CHAT, json=body) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            has_text = b'content":"' in line and b'"content":""' not in line
            if found is None and has_text:
                found = time.perf_counter() - began
    if found is None:
        raise RuntimeError(f"a stream of {reply.url} has no content")
    return found
