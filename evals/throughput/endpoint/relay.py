"""Requests for one sample: what the endpoint's way to the SGLang server's route costs."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from eager_sgl.engine.protocol import Json
from evals.throughput.endpoint.asking import (
    Route,
    ask_all,
    ask_in_turn,
    first_token_seconds,
)
from evals.throughput.endpoint.process import EndpointProcess

__all__ = ["FirstToken", "RelayRow", "first_token_of", "relay_row"]


@dataclass(frozen=True)
class RelayRow:
    """Throughput at a number of requests at once.

    Attributes:
        at_once: requests.
        ratios: throughput through the endpoint as a share of the server's own, by pass.
        direct_per_second: requests per second of the server's own route, the median.
        cpu_seconds: of the endpoint for 1,000 requests, the median.
    """

    at_once: int
    ratios: list[float]
    direct_per_second: float
    cpu_seconds: float

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class FirstToken:
    """Seconds until the first content of a stream, one at a time, by pass."""

    direct: list[float]
    ours: list[float]

    @property
    def added(self) -> float:
        """The median of the differences, in seconds."""
        pairs = zip(self.direct, self.ours, strict=True)
        return statistics.median(ours - direct for direct, ours in pairs)


def relay_row(
    direct: Route,
    endpoint: EndpointProcess,
    bodies: Sequence[Json],
    at_once: int,
    passes: int,
) -> RelayRow:
    """Time both routes in turn, in changing order: by request if there is one at a time.

    The answers should be of equal lengths, which would otherwise differ by chance.
    """
    ours, ratios, rates, cpu = Route("endpoint", endpoint.url), [], [], []
    for index in range(passes):
        before = endpoint.cpu_seconds()
        theirs_s, ours_s = _seconds(direct, ours, bodies, at_once, is_reversed=bool(index % 2))
        cpu.append((endpoint.cpu_seconds() - before) / len(bodies) * 1000)
        ratios.append(theirs_s / ours_s)
        rates.append(len(bodies) / theirs_s)
    return RelayRow(at_once, ratios, statistics.median(rates), statistics.median(cpu))


def _seconds(
    first: Route, second: Route, bodies: Sequence[Json], at_once: int, *, is_reversed: bool
) -> list[float]:
    """The seconds of both routes."""
    if at_once == 1:
        return asyncio.run(ask_in_turn(first, second, bodies))
    seconds = [0.0, 0.0]
    for number in (1, 0) if is_reversed else (0, 1):
        seconds[number] = asyncio.run(ask_all((first, second)[number], bodies, at_once))[1]
    return seconds


def first_token_of(
    direct: Route, endpoint: EndpointProcess, bodies: Sequence[Json], passes: int
) -> FirstToken:
    """Time streams of both routes in turn."""
    ours = Route("endpoint", endpoint.url)
    times: dict[str, list[float]] = {direct.name: [], ours.name: []}
    for index in range(passes):
        for route in (direct, ours) if index % 2 else (ours, direct):
            times[route.name].append(asyncio.run(first_token_seconds(route, bodies)))
    return FirstToken(times[direct.name], times[ours.name])
