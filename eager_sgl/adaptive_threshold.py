"""An adaptive θ: a quantile of a model's entropies, updated while prompts run.

A fixed share of steps would depend on the length of chains: above the 99.9th percentile, the
paper's definition of peaks, lie ten steps of a chain of 10,000 tokens, and none of a chain of 100.
The paper's calibration aims at a number of sequences, between one and M on every prompt. So the
quantile is the one at which a chain has ln(M/2) steps of at least θ: if every branch has as many on
the rest of its path, one sequence becomes M/2, which is the target of `evals/calibrate.py` too.

Entropies are counted in bins of 0.005 nats. The counts are small, do not depend on the order of
threads, and can be restored from the counts that a run stores with every prompt.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["AdaptiveThreshold", "EntropyHistogram"]

BIN = 0.005
"""Width of a bin in nats."""
NUM_CHAINS = 10
"""Chains that are known before a prompt starts with a θ; the paper calibrates on as many."""


@dataclass(frozen=True)
class EntropyHistogram:
    """The monitored entropies of a prompt, and the θ that it branched at.

    Attributes:
        threshold: θ in nats, constant for the prompt.
        length: mean length of its chains in tokens.
        counts: (bin, number of steps), by rising bin; bin i holds entropies from 0.005 i nats on.
    """

    threshold: float
    length: float
    counts: tuple[tuple[int, int], ...]


class AdaptiveThreshold:
    """The entropies of a model's prompts so far; one object for all prompts, in any thread.

    Args:
        quantile: of θ among all monitored steps, in (0, 1); None for the one at which a chain has
            ln(M/2) steps of at least θ.
        lowest: minimum of θ in nats.
    """

    def __init__(self, quantile: float | None = None, *, lowest: float = 0.05) -> None:
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"quantile is {quantile}; it must be in (0, 1), or None")
        if not lowest > 0:
            raise ValueError(f"lowest is {lowest}; it must be above 0 nats")
        self.lowest = lowest
        self._quantile = quantile
        self._counts: Counter[int] = Counter()
        self._num_chains = 0
        self._length = 0.0
        self._lock = threading.Lock()

    @property
    def num_steps(self) -> int:
        """Number of monitored steps so far."""
        with self._lock:
            return self._counts.total()

    @property
    def num_chains(self) -> int:
        """Number of prompts whose chain length is known."""
        with self._lock:
            return self._num_chains

    @property
    def is_ready(self) -> bool:
        """Whether a prompt can start with a θ."""
        return self.num_chains >= NUM_CHAINS

    def observe(self, entropies: Iterable[float]) -> Counter[int]:
        """Add monitored steps, NaN ignored; the counts by bin that were added."""
        counts = Counter(int(entropy / BIN) for entropy in entropies if not math.isnan(entropy))
        with self._lock:
            self._counts += counts
        return counts

    def observe_length(self, length: float) -> None:
        """Add a prompt by the mean length of its chains in tokens."""
        with self._lock:
            self._num_chains += 1
            self._length += length

    def restore(self, histogram: EntropyHistogram) -> None:
        """Add a prompt of an earlier session."""
        with self._lock:
            self._counts += Counter(dict(histogram.counts))
        self.observe_length(histogram.length)

    def quantile(self, max_sequences: int) -> float:
        """Of θ at M; 1 while no chain is known. The target is M/2 sequences, at least 2."""
        if self._quantile is not None:
            return self._quantile
        with self._lock:
            mean = self._length / max(self._num_chains, 1)
        return 1 - min(math.log(max(max_sequences / 2, 2)) / mean, 1) if mean else 1.0

    def threshold(self, max_sequences: int) -> float:
        """The present θ at M in nats: the lower edge of the quantile's bin, at least `lowest`."""
        quantile = self.quantile(max_sequences)
        with self._lock:
            missing = quantile * self._counts.total()
            for index in sorted(self._counts):
                missing -= self._counts[index]
                if missing <= 0:
                    return max(index * BIN, self.lowest)
        return self.lowest
