"""How often a running request sends a part of its answer, from how fast sequences are decoded."""

from __future__ import annotations

__all__ = ["Pace"]

_SECONDS_BETWEEN_PARTS = 2.0
_MIN_INTERVAL, _MAX_INTERVAL = 16, 1024
_SHARE_OF_LATEST = 0.2


class Pace:
    """The mean speed of a server's running sequences, for parts of answers that serve progress.

    SGLang sends all tokens of a request so far with every part, so that parts cost the square of
    their number: they are as far apart as a sequence is decoded in two seconds.
    """

    def __init__(self) -> None:
        self._tokens_per_second: float | None = None

    def note(self, num_tokens: int, seconds: float) -> None:
        """A request has decoded a number of tokens."""
        if num_tokens < 2 or seconds <= 0:
            return
        speed, known = num_tokens / seconds, self._tokens_per_second
        self._tokens_per_second = (
            speed if known is None else known + _SHARE_OF_LATEST * (speed - known)
        )

    @property
    def interval(self) -> int:
        """Tokens between two parts of an answer."""
        speed = self._tokens_per_second or 0.0
        return max(_MIN_INTERVAL, min(_MAX_INTERVAL, round(speed * _SECONDS_BETWEEN_PARTS)))
