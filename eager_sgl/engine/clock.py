"""The timeouts of one try of a request, measured while its answer arrives."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Clock"]


class Clock:
    """Measures the timeouts of one try.

    Args:
        total: seconds in total.
        silence: seconds without any byte.
    """

    def __init__(self, total: float, silence: float) -> None:
        self._total, self._silence = total, silence
        self._started = self._last_bytes = asyncio.get_running_loop().time()

    def note_bytes(self) -> None:
        """Restart the timeout of silence: bytes have arrived."""
        self._last_bytes = asyncio.get_running_loop().time()

    @property
    def reason(self) -> str:
        """The timeout that expired, as a clause."""
        if self._is_silent:
            return f"gave no answer within {self._silence:g} s"
        return f"gave no complete answer within {self._total:g} s"

    @property
    def _is_silent(self) -> bool:
        return self._last_bytes + self._silence < self._started + self._total

    def _remaining(self) -> float:
        end = min(self._last_bytes + self._silence, self._started + self._total)
        return end - asyncio.get_running_loop().time()

    async def expires_before(self, task: asyncio.Future[Any]) -> bool:
        """Wait for a task; whether a timeout expired first."""
        while (remaining := self._remaining()) > 0:
            await asyncio.wait({task}, timeout=remaining)
            if task.done():
                return False
        return True
