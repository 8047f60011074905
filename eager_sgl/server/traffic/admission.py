"""The requests that run and those that wait, fair between keys.

An SGLang server decodes a limited number of sequences well at the same time. So requests run as
long as their sequences are within a bound, and wait elsewhere. The next one is the first of the key
with the fewest running sequences: keys share the servers evenly, however many requests they send.
It waits until its sequences fit, so that large requests are not passed by small ones for ever.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from time import monotonic

from eager_sgl.server.errors import ApiError

__all__ = ["Admission"]

_NUM_LATEST = 64
_MAX_RETRY_SECONDS = 60
"""OpenAI's clients wait no longer for a `Retry-After`."""


@dataclass(eq=False)
class _Ticket:
    """A request that waits, or runs.

    Attributes:
        key: its client's.
        size: its sequences.
        is_over: set when its wait is over.
        is_running: whether it has had its turn.
        started: when it had its turn.
        refusal: why it was given up for another one.
    """

    key: int
    size: int
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    is_running: bool = False
    started: float = 0.0
    refusal: ApiError | None = None


class Admission:
    """Admits requests.

    Args:
        max_requests: bound on the requests that run or wait.
        max_sequences: bound on the sequences of the requests that run; a larger request runs alone.

    Attributes:
        num_sequences: of the requests that run.
    """

    def __init__(self, max_requests: int, max_sequences: int) -> None:
        self._max_requests, self._max_sequences = max_requests, max_sequences
        self._waiting: dict[int, deque[_Ticket]] = {}
        self._requests: Counter[int] = Counter()
        self._running: Counter[int] = Counter()
        self._last_turns: Counter[int] = Counter()
        self._turns = count(1)
        self._seconds: deque[float] = deque(maxlen=_NUM_LATEST)

    @property
    def num_requests(self) -> int:
        """Requests that run or wait."""
        return self._requests.total()

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def num_sequences(self) -> int:
        """Sequences of the requests that run."""
        return self._running.total()

    @asynccontextmanager
    async def admit(self, key: int, num_sequences: int) -> AsyncIterator[None]:
        """Wait for the turn of a request, and run it.

        Args:
            key: of its client.

        Raises:
            ApiError: too many requests run or wait.
        """
        self._make_room(key)
        ticket = _Ticket(key, min(num_sequences, self._max_sequences))
        self._requests[key] += 1
        self._waiting.setdefault(key, deque()).append(ticket)
        self._start_next()
        try:
            await ticket.is_over.wait()
            if ticket.refusal is not None:
                raise ticket.refusal
            yield
        finally:
            self._leave(ticket)

    def _make_room(self, key: int) -> None:
        """At the bound, refuse the last waiting request of the key with most, for one with fewer.

        Raises:
            ApiError: no other request is refused.
        """
        if self.num_requests < self._max_requests:
            return
        counts = {other: self._requests[other] for other, queue in self._waiting.items() if queue}
        largest = max(counts, key=counts.__getitem__, default=key)
        error = ApiError(
            429,
            f"{self.num_requests} requests run or wait already; try again later",
            code="too_many_requests",
            retry_after=self._seconds_until_a_turn(),
        )
        if self._requests[largest] <= self._requests[key] + 1:
            raise error
        last = self._waiting[largest].pop()
        last.refusal = error
        last.is_over.set()
        self._requests[largest] -= 1

    def _seconds_until_a_turn(self) -> int:
        """When the requests that wait should have had their turns, by the seconds of the latest."""
        if not self._seconds:
            return 1
        mean = sum(self._seconds) / len(self._seconds)
        num_running = max(1, self.num_requests - self.num_waiting)
        seconds = math.ceil(mean * (self.num_waiting + 1) / num_running)
        return min(max(1, seconds), _MAX_RETRY_SECONDS)

    def _start_next(self) -> None:
        while queues := [queue for queue in self._waiting.values() if queue]:
            queue = min(queues, key=self._precedence)
            if self.num_sequences + queue[0].size > self._max_sequences:
                return
            ticket = queue.popleft()
            self._last_turns[ticket.key] = next(self._turns)
            self._running[ticket.key] += ticket.size
            ticket.is_running, ticket.started = True, monotonic()
            ticket.is_over.set()

    def _precedence(self, queue: deque[_Ticket]) -> tuple[int, int]:
        """Keys with fewer sequences are first, then those whose last turn is longer ago."""
        key = queue[0].key
        return self._running[key], self._last_turns[key]

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.refusal is not None:
            return
        self._requests[ticket.key] -= 1
        if ticket.is_running:
            self._running[ticket.key] -= ticket.size
            self._seconds.append(monotonic() - ticket.started)
        else:
            self._waiting[ticket.key].remove(ticket)
        self._start_next()
