"""How long a request may take, and how often it is tried."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FIRST_CONTACT",
    "PATIENT",
    "PROBE",
    "REQUEST_TIMEOUT",
    "SILENCE_TIMEOUT",
    "SMALL_TIMEOUT",
    "UNREPEATED",
    "Clock",
    "Patience",
]

REQUEST_TIMEOUT = 3600.0
"""Seconds: a sequence's last request may decode tens of thousands of tokens before it answers."""
SILENCE_TIMEOUT = 600.0
"""Seconds: a request without a stream is silent until it has ended, and one with a gate between two
reports. Ten minutes are rare in a chunk and few for a whole sequence, whose request then ends early
and is followed by another for the rest, which the radix cache serves."""
SMALL_TIMEOUT = 20.0
"""Seconds for a route that generates nothing: /tokenize of a long text on a busy server."""


@dataclass(frozen=True)
class Patience:
    """How often a request is tried.

    Attributes:
        pauses: seconds before each further try, give or take a quarter, so that the requests of a
            batch do not come back all at once.
        timeout: seconds for one try; None for the limits of its route.
        redraws: whether it is tried again where it took too long. Not what draws tokens: whatever
            the next try draws would have to be shorter.
    """

    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    timeout: float | None = None
    redraws: bool = True


PATIENT = Patience()
"""About half a minute: as long as a server or a gateway takes to be restarted."""
UNREPEATED = Patience(redraws=False)
FIRST_CONTACT = Patience((0.2, 0.5, 1.0), timeout=4.0)
"""Whoever connects has perhaps mistyped the URL: that is said soon, after 18 s at the latest."""
PROBE = Patience(timeout=60.0)
"""For requests of a few tokens, which wait for their turn on a busy server."""


class Clock:
    """Runs out when a try has taken too long in total, or was silent for too long.

    Args:
        total: seconds in total.
        silence: seconds without any byte.
    """

    def __init__(self, total: float, silence: float) -> None:
        self._total, self._silence = total, silence
        self._started = self._heard = asyncio.get_running_loop().time()

    def heard_from(self) -> None:
        """Bytes have come."""
        self._heard = asyncio.get_running_loop().time()

    @property
    def reason(self) -> str:
        """What ran out, as a clause."""
        if self._is_silent:
            return f"gave no answer within {self._silence:g} s"
        return f"gave no complete answer within {self._total:g} s"

    @property
    def _is_silent(self) -> bool:
        return self._heard + self._silence < self._started + self._total

    def _left(self) -> float:
        end = min(self._heard + self._silence, self._started + self._total)
        return end - asyncio.get_running_loop().time()

    async def runs_out_before(self, task: asyncio.Future[Any]) -> bool:
        """Wait for a task, or until the limits are reached."""
        while (left := self._left()) > 0:
            await asyncio.wait({task}, timeout=left)
            if task.done():
                return False
        return True
