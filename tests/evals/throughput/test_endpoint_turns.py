"""Which of two routes comes first: neither is favoured by its turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from evals.throughput.endpoint.asking import Route, order_of
from evals.throughput.endpoint.relay import first_token_of, relay_row
from tests.fakes.http_server import Handler, Seen, listening

if TYPE_CHECKING:
    from evals.throughput.endpoint.process import EndpointProcess

NUM_BODIES = 4
BODIES = [{"number": number} for number in range(NUM_BODIES)]
TURNS = ["AB", "BA", "BA", "AB"]


@dataclass
class Endpoint:
    """Stands for the process of the endpoint."""

    url: str

    def cpu_seconds(self) -> float:
        return 0.0


@contextmanager
def routes() -> Iterator[tuple[Route, EndpointProcess, list[str]]]:
    """The server's own route A, the endpoint B, and the names of those that are asked, in order."""
    asked: list[str] = []

    def answering(name: str, reply_text: str) -> type[Handler]:
        class Server(Handler):
            def reply(self, request: Seen) -> None:
                asked.append(name)
                kind = "text/event-stream" if request.body.get("stream") else "application/json"
                self.send(200, reply_text.encode(), kind)

        return Server

    text = '{"content":"a"}\n\n'
    with listening(answering("A", text)) as direct, listening(answering("B", text)) as ours:
        yield Route("direct", direct), cast("EndpointProcess", Endpoint(ours)), asked


def test_over_four_passes_both_routes_have_equal_turns() -> None:
    first, second = Route("A", ""), Route("B", "")
    orders = [[route.name for route in order_of(first, second, index)] for index in range(8)]
    assert ["".join(names) for names in orders] == TURNS * 2
    turns = [turn for names in orders[:4] for turn in names]
    places = {name: sum(i for i, turn in enumerate(turns) if turn == name) for name in "AB"}
    assert places["A"] == places["B"]


@pytest.mark.parametrize("at_once", [2, NUM_BODIES])
def test_passes_of_many_requests_at_once_have_the_order(at_once: int) -> None:
    with routes() as (direct, endpoint, asked):
        row = relay_row(direct, endpoint, BODIES, at_once, passes=4)
    expected = [name for turns in TURNS for name in turns for _ in range(NUM_BODIES)]
    assert asked == expected
    assert len(row.ratios) == 4


def test_requests_that_are_asked_one_at_a_time_have_it_from_the_turn_of_their_pass_on() -> None:
    with routes() as (direct, endpoint, asked):
        relay_row(direct, endpoint, BODIES, at_once=1, passes=4)
    passes = ["".join(asked[n : n + 2 * NUM_BODIES]) for n in range(0, len(asked), 2 * NUM_BODIES)]
    swapped = str.maketrans("AB", "BA")
    whole = "".join(TURNS)
    assert passes == [whole, whole.translate(swapped), whole.translate(swapped), whole]


def test_first_tokens_have_the_order() -> None:
    with routes() as (direct, endpoint, asked):
        found = first_token_of(direct, endpoint, BODIES, passes=4)
    assert asked == [name for turns in TURNS for name in turns for _ in range(NUM_BODIES)]
    assert len(found.direct) == len(found.ours) == 4
