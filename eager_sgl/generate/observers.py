"""Functions that see the tree of a prompt while it grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from eager_sgl.core import TokenCounts
from eager_sgl.schedule import Decision

__all__ = ["Observer", "OnProgress", "progress_of"]

OnProgress = Callable[[TokenCounts, int], None]
"""(cost so far, number of running sequences) -> None; called when a part of an answer arrives."""


class Observer(Protocol):
    """Sees the tree of a prompt while it grows."""

    def __call__(self, decision: Decision, counts: TokenCounts) -> None:
        """A part of an answer has arrived."""


def progress_of(on_progress: OnProgress | None) -> tuple[tuple[Observer, ...], int | None]:
    """The observers that report progress, and the `PromptLimits.stream_interval` for them."""
    if on_progress is None:
        return (), None

    def observe(decision: Decision, counts: TokenCounts) -> None:
        on_progress(counts, decision.num_alive)

    return (observe,), 0
