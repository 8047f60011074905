"""The running confidence of a request, and the floor below which it ends."""

from __future__ import annotations

import math
from itertools import accumulate

__all__ = ["RunningConfidence"]


class RunningConfidence:
    """The mean over the last W steps of −ln p of the K tokens (group confidence of DeepConf).

    Args:
        window: W.
        floor: in nats.
        before: values of the steps before the request, at most W − 1.
    """

    def __init__(self, window: int, floor: float, before: tuple[float, ...] = ()) -> None:
        self._window, self._floor = window, floor
        self._num_before = len(before)
        self._sums = list(accumulate(before, initial=0.0))  # of the values before each token
        self._infinite: set[int] = set()  # tokens without a finite value
        self._num_checked = 0

    def add(self, index: int, value: float) -> None:
        """The value of a token; it replaces that of a token which is drawn again.

        A value that is infinite, as of a step that was not read, holds the confidence above the
        floor while it is in the window.
        """
        position = self._num_before + index
        del self._sums[position + 1 :]
        self._infinite = {other for other in self._infinite if other < position}
        if not math.isfinite(value):
            self._infinite.add(position)
            value = 0.0
        self._sums.append(self._sums[-1] + value)

    def first_below(self, last: int) -> tuple[int, float] | None:
        """The first token, up to `last`, whose running confidence is below the floor, and that."""
        start = max(self._num_checked, self._window - 1)
        end = min(self._num_before + last + 1, len(self._sums) - 1)
        self._num_checked = max(self._num_checked, end)
        for index in range(start, end):
            running = (self._sums[index + 1] - self._sums[index + 1 - self._window]) / self._window
            window = range(index + 1 - self._window, index + 1)
            if running < self._floor and self._infinite.isdisjoint(window):
                return index - self._num_before, running
        return None
