"""A running request for tokens of a segment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from eager_sgl.core import Generation
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.requests import Request, RequestHandle
from eager_sgl.tree import Segment

__all__ = ["InFlight", "Outcome"]

Outcome = Generation | Exception
"""A part of an answer, its end, or the error in its place."""


class InFlight:
    """A running request for `num_tokens` tokens of a segment, from its end on.

    Attributes:
        segment: that the tokens continue.
        num_tokens: the maximum.
        start: position of the first token.
        handle: names the request.
        latest: the latest part of the answer; None without any.
        is_discarded: whether the segment is on no path.
        task: in which the request runs.
    """

    __slots__ = (
        "_started",
        "handle",
        "is_discarded",
        "latest",
        "num_tokens",
        "segment",
        "start",
        "task",
    )
    task: asyncio.Task[None]

    def __init__(self, segment: Segment, num_tokens: int) -> None:
        self.segment, self.num_tokens, self.start = segment, num_tokens, segment.end
        self.handle = RequestHandle()
        self.latest: Generation | None = None
        self.is_discarded = False
        self._started = time.monotonic()

    @property
    def num_received(self) -> int:
        """Tokens that the server had decoded by the latest part."""
        return self.latest.num_decoded if self.latest else 0

    @property
    def seconds(self) -> float:
        """Since the request was submitted."""
        return time.monotonic() - self._started

    async def run(
        self,
        client: TokenClient,
        request: Request,
        put: Callable[[InFlight, Outcome], None],
    ) -> None:
        """Send the request; `put` receives every part of its answer, and its end."""
        try:
            outcome: Outcome = await client.generate(
                request, self.handle, lambda generation: put(self, generation)
            )
        except Exception as error:
            outcome = error
        put(self, outcome)
