"""The steps of a segment that something else could have been drawn at, kept compactly.

A step is stored where the model is not sure of its most likely token. Its K most likely tokens are
kept with the model's own probabilities (temperature 1), renormalised over the K: 8 bytes a token,
and 4 each for the position and for what the K have together, 168 bytes a step for K = 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["Steps", "ranks_of"]


@dataclass(frozen=True)
class Steps:
    """Some steps of a segment.

    Attributes:
        positions: int32 [n], rising.
        token_ids: int32 [n, K], most likely first.
        logprobs: float32 [n, K], of the model's own distribution over the K; −inf where that is 0.
        top_k_mass: float32 [n], what the K have together of the whole distribution that is sampled
            from, before top-p; a lower bound where the server's logprobs are of another temperature
            (`eager_sgl.signals.top_k_mass_bound`).
    """

    positions: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_k_mass: NDArray[np.float32]

    def before(self, position: int) -> Steps:
        """Those of smaller positions."""
        end = int(np.searchsorted(self.positions, position))
        if end == len(self.positions):
            return self
        # A view would keep what is cut off.
        return Steps(*(getattr(self, field.name)[:end].copy() for field in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Steps]) -> Steps:
        """One after the other, of at least one part."""
        return cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )


def ranks_of(token_ids: NDArray[np.int32], taken: NDArray[np.int32]) -> NDArray[np.intp]:
    """Each step's place of the token taken; one outside the K counts as the least likely."""
    matches = token_ids == taken[:, None]
    last = token_ids.shape[1] - 1
    ranks: NDArray[np.intp] = np.where(matches.any(axis=1), matches.argmax(axis=1), last)
    return ranks
