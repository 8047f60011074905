"""The steps of a segment at which another token was possible, stored compactly.

A step is stored where the model is unsure of its most likely token: the K most likely tokens with
their probabilities at temperature 1, renormalised over the K (8 bytes a token), the position and
the mass of the K (4 bytes each); 168 bytes a step for K = 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["Steps", "ranks_of"]


@dataclass(frozen=True)
class Steps:
    """n steps of a segment.

    Attributes:
        positions: int32 [n], rising.
        token_ids: int32 [n, K], most likely first.
        logprobs: float32 [n, K], natural logarithms at temperature 1, renormalised over the K; −inf
            for probability 0.
        top_k_mass: float32 [n], probability of the K in the distribution that is sampled from,
            before top-p; a lower bound where the server's logprobs are of another temperature
            (`eager_sgl.signals.top_k_mass_bound`).
    """

    positions: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_k_mass: NDArray[np.float32]

    def before(self, position: int) -> Steps:
        """The steps at smaller positions."""
        end = int(np.searchsorted(self.positions, position))
        if end == len(self.positions):
            return self
        # A view would keep the memory of the others.
        return Steps(*(getattr(self, field.name)[:end].copy() for field in fields(self)))

    def since(self, index: int) -> Steps:
        """The steps from an index on, as views."""
        return Steps(*(getattr(self, field.name)[index:] for field in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Steps]) -> Steps:
        """The steps of at least one part, one after the other."""
        return cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )


def ranks_of(token_ids: NDArray[np.int32], taken: NDArray[np.int32]) -> NDArray[np.intp]:
    """[n], ranks of the taken tokens, 0 the most likely; one that is not among the K has K − 1."""
    matches = token_ids == taken[:, None]
    last = token_ids.shape[1] - 1
    ranks: NDArray[np.intp] = np.where(matches.any(axis=1), matches.argmax(axis=1), last)
    return ranks
