"""Random orders of a prompt's samples, in which they would have started."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evals.laboratory.samples import Samples

__all__ = ["Draws", "draw"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Draws:
    """R orders of M of a prompt's samples.

    Attributes:
        order: int [R, M], indices of samples, in the order of their starts.
    """

    samples: Samples
    order: NDArray[np.intp]
    _known: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def max_sequences(self) -> int:
        """M."""
        return int(self.order.shape[1])

    @cached_property
    def votes(self) -> NDArray[np.int64]:
        """Classes [R, M]."""
        return self.samples.votes[self.order]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens [R, M] of whole samples."""
        return self.samples.lengths[self.order]

    @cached_property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether no earlier sample has the same tokens [R, M]."""
        keys = self.samples.distinct[self.order]
        firsts = [~(keys[:, :j] == keys[:, j : j + 1]).any(1) for j in range(keys.shape[1])]
        return np.array(firsts).T

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """A value that several rules need, computed once."""
        if key not in self._known:
            self._known[key] = compute()
        value: Value = self._known[key]
        return value


def draw(samples: Samples, max_sequences: int, num_resamples: int, seed: int) -> Draws:
    """Orders that depend on the seed and the prompt's id alone."""
    rng = np.random.default_rng([seed, zlib.crc32(samples.sample_id.encode())])
    keys = rng.random((num_resamples, len(samples.recorded)))
    return Draws(samples, np.argsort(keys, axis=1)[:, :max_sequences])
