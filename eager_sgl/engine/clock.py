"""The timeouts of one try of a request, measured while its answer arrives."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

__all__ = ["Clock", "Pulse"]


class Pulse:
    """When the last byte of any answer about tokens came, in seconds of `time.monotonic`."""

    last_bytes: float = -math.inf


class Clock:
    """Ends the code in its context when a timeout expires.

    Args:
        total: seconds in total.
        silence: seconds without any byte. Until the first one, which a queued request has to wait
            for, those of the answers with the same pulse count too.
        pulse: shared by the requests for tokens to a server.
        grace: seconds that remain after the first expiry; 0 for none.
        on_expiry: called at the first expiry.

    Raises:
        TimeoutError: at the end of the context, if a timeout has expired.
    """

    def __init__(
        self,
        total: float,
        silence: float,
        pulse: Pulse,
        grace: float = 0.0,
        on_expiry: Callable[[], None] = lambda: None,
    ) -> None:
        self._total, self._silence, self._grace = total, silence, grace
        self._pulse, self._has_bytes = pulse, False
        self._on_expiry = on_expiry
        self._loop = asyncio.get_running_loop()
        self._started = self._last_bytes = self._loop.time()
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self.reason = ""
        self.was_ended = False

    def note_bytes(self) -> None:
        """Restart the timeout of silence: bytes have arrived."""
        self._last_bytes = self._pulse.last_bytes = self._loop.time()
        self._has_bytes = True

    def end(self, reason: str) -> None:
        """End the code in the context now, unless it has ended; a verb phrase says why."""
        if self._scope.when() is None:  # no timeout has expired
            self.reason, self.was_ended = reason, True
            self._scope.reschedule(self._loop.time())

    async def __aenter__(self) -> Clock:
        await self._scope.__aenter__()
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, traceback)

    def _arm(self) -> None:
        end = min(self._silent_until(), self._started + self._total)
        if end > self._loop.time():
            self._timer = self._loop.call_at(end, self._arm)
            return
        self.reason = self._describe()
        self._on_expiry()
        self._scope.reschedule(self._loop.time() + self._grace)

    def _silent_until(self) -> float:
        """When the timeout of silence expires if no more bytes arrive."""
        heard = self._last_bytes if self._has_bytes else self._pulse.last_bytes
        return max(self._last_bytes, heard) + self._silence

    def _describe(self) -> str:
        """The timeout that expired, as a clause."""
        if self._silent_until() < self._started + self._total:
            return f"gave no answer within {self._silence:g} s"
        return f"gave no complete answer within {self._total:g} s"
