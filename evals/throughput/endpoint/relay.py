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
    order_of,
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
    """Time both routes in the order of `order_of`, by pass.

    If one request is asked at a time, its order changes likewise, from that of the pass on.

    The answers should be of equal lengths, which would otherwise differ by chance.
    """
    ours, ratios, rates, cpu = Route("endpoint", endpoint.url), [], [], []
    for index in range(passes):
        before = endpoint.cpu_seconds()
        seconds = _seconds(order_of(direct, ours, index), bodies, at_once)
        cpu.append((endpoint.cpu_seconds() - before) / len(bodies) * 1000)
        ratios.append(seconds[direct.name] / seconds[ours.name])
        rates.append(len(bodies) / seconds[direct.name])
    return RelayRow(at_once, ratios, statistics.median(rates), statistics.median(cpu))


def _seconds(routes: tuple[Route, Route], bodies: Sequence[Json], at_once: int) -> dict[str, float]:
    """The seconds of both routes, by name."""
    if at_once == 1:
        return asyncio.run(ask_in_turn(routes, bodies))
    return {route.name: asyncio.run(ask_all(route, bodies, at_once))[1] for route in routes}


def first_token_of(
    direct: Route, endpoint: EndpointProcess, bodies: Sequence[Json], passes: int
) -> FirstToken:
    """Time streams of both routes in the order of `order_of`, by pass."""
    ours = Route("endpoint", endpoint.url)
    times: dict[str, list[float]] = {direct.name: [], ours.name: []}
    for index in range(passes):
        for route in order_of(direct, ours, index):
            times[route.name].append(asyncio.run(first_token_seconds(route, bodies)))
    return FirstToken(times[direct.name], times[ours.name])
