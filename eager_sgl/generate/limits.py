"""What a prompt may use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eager_sgl.config import require, require_whole
from eager_sgl.methods import Method

__all__ = ["UNLIMITED", "PromptLimits"]

PARTS_OF_MAX_TOKENS = 16
"""A running request reports its tokens so often that `max_tokens` is exceeded by a part at most."""


@dataclass(frozen=True, kw_only=True)
class PromptLimits:
    """What a prompt may use; its result is then partial.

    Attributes:
        timeout: seconds from the start; None for no limit.
        max_tokens: generated tokens, discarded ones included; None for no limit. It is exceeded by
            what running requests decode between two parts of their answers, and by whole chunks
            under the chunk monitor.
        stream_interval: tokens after which a running request reports what it has decoded; 0 for
            about two seconds of decoding; None for no reports before its end.
    """

    timeout: float | None = None
    max_tokens: int | None = None
    stream_interval: int | None = None

    def __post_init__(self) -> None:
        require(
            self.timeout is None or 0 < self.timeout < math.inf,
            "timeout",
            self.timeout,
            "None, or a finite number of seconds above 0",
        )
        if self.max_tokens is not None:
            require_whole("max_tokens", self.max_tokens, 1)
        if self.stream_interval is not None:
            require_whole("stream_interval", self.stream_interval, 0)

    def interval_of(self, method: Method) -> int | None:
        """The stream interval of a method's requests."""
        if self.max_tokens is None:
            return self.stream_interval
        fine = max(1, self.max_tokens // (PARTS_OF_MAX_TOKENS * method.max_sequences))
        return min(fine, self.stream_interval or fine)


UNLIMITED = PromptLimits()
