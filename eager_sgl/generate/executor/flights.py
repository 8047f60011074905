"""The running requests of a tree, and what has arrived of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container, Iterator

from eager_sgl.core import Generation
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.loop import spawn
from eager_sgl.engine.replicas import Lease
from eager_sgl.engine.requests import Request
from eager_sgl.errors import ServerError
from eager_sgl.generate.executor.in_flight import InFlight, Outcome
from eager_sgl.tree import Segment

__all__ = ["MAX_FRUITLESS", "Flights"]

MAX_FRUITLESS = 7
"""Interrupted requests without a token, in a row, after which a prompt fails."""
SECONDS_BETWEEN_ABORTS = 0.5


class Flights:
    """The running requests of a tree, at most one per segment.

    Args:
        lease: of the replica that they are sent to, whose load they are.

    Attributes:
        outcomes: what has arrived and is not in the tree yet, in its order.
        has_news: set when something arrives.
        num_tokens: tokens that the running requests have reported.
    """

    def __init__(self, lease: Lease) -> None:
        self.outcomes: deque[tuple[InFlight, Outcome]] = deque()
        self.has_news = asyncio.Event()
        self.num_tokens = 0
        self._lease = lease
        self._running: dict[Segment, InFlight] = {}
        self._fruitless: dict[Segment, int] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, segment: Segment) -> bool:
        return segment in self._running

    def __iter__(self) -> Iterator[InFlight]:
        return iter(self._running.values())

    def running_parent(self, segment: Segment) -> str | None:
        """The request that has decoded the tokens before a segment, and is not over."""
        flight = self._running.get(segment.parent) if segment.parent else None
        if flight is None or segment.start <= flight.start:
            return None
        return flight.handle.request_id or None

    def start(self, segment: Segment, request: Request) -> None:
        """Send a request for tokens of a segment."""
        flight = InFlight(segment, request.num_tokens)
        self._running[segment] = flight
        self._lease.add(request.num_tokens)
        flight.task = spawn(flight.run(self._lease.client, request, self._put))

    def _put(self, flight: InFlight, outcome: Outcome) -> None:
        if self._running.get(flight.segment) is flight:  # its cancellation may have come too late
            self.outcomes.append((flight, outcome))
            self.has_news.set()

    def abort(self, flight: InFlight) -> None:
        """Abort a request, which then answers with the tokens so far.

        An abort may overtake its request, and has no effect then. So it is repeated until the
        request has ended.
        """
        if not flight.handle.aborted:
            flight.handle.aborted = True
            spawn(_abort_until_over(self._lease.client, flight))

    def discard_others(self, segments: Container[Segment]) -> None:
        """Abort the requests of all segments but these."""
        for segment, flight in self._running.items():
            if segment not in segments and not flight.is_discarded:
                flight.is_discarded = True
                self.abort(flight)

    def note_part(self, flight: InFlight, part: Generation) -> None:
        """Count the tokens of a part of an answer."""
        num_new = part.num_decoded - flight.num_received
        self.num_tokens += num_new
        self._lease.remove(num_new)
        self._lease.client.pace.note(len(part.token_ids), flight.seconds)
        flight.latest = part

    def end(self, flight: InFlight) -> None:
        """A request is over: its parts are no longer counted here."""
        del self._running[flight.segment]
        self.num_tokens -= flight.num_received
        self._lease.remove(flight.num_tokens - flight.num_received)

    def require_progress(self, flight: InFlight, outcome: Generation) -> None:
        """Fail after several interrupted requests of a segment in a row without a token.

        Raises:
            ServerError: this was the last one allowed.
        """
        segment = flight.segment
        if outcome.interrupted is None or segment.end > flight.start:
            self._fruitless.pop(segment, None)
            return
        self._fruitless[segment] = number = self._fruitless.get(segment, 0) + 1
        if number >= MAX_FRUITLESS:
            raise ServerError(
                f"{number} requests in a row ended without a token: {outcome.interrupted}"
            )


async def _abort_until_over(client: TokenClient, flight: InFlight) -> None:
    while not flight.task.done():
        await client.abort(flight.handle)
        await asyncio.wait({flight.task}, timeout=SECONDS_BETWEEN_ABORTS)
