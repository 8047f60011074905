"""θ that nobody has to choose: the adaptive quantile of the entropies that a model shows.

A fixed share of steps would not do: the 99.9th percentile, above which the paper speaks of peaks,
is ten steps of a chain of 10,000 tokens, and none of a chain of 100. What the paper's calibration
wants is a number of sequences, between one and M on every prompt. So the quantile is the one at
which a chain meets ln(M/2) steps of at least θ: if every branch again meets as many on what is left
of its way, one sequence has become M/2 at the end, which is what `evals/calibrate.py` aims at.

Entropies are counted in bins of 0.005 nats. A count is small, does not depend on the order in which
threads bring them, and is put together again from the counts of the prompts that a run has stored.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["AdaptiveThreshold", "EntropyHistogram"]

BIN = 0.005
"""Width in nats."""
NUM_CHAINS = 10
"""Chains that have to be known before a prompt begins with a θ; the paper calibrates on as many."""


@dataclass(frozen=True)
class EntropyHistogram:
    """What one prompt showed, and the θ that it branched at.

    Attributes:
        threshold: θ in nats; one for the whole prompt.
        length: tokens of its chains, on average.
        counts: monitored steps by the bin of their entropy, bins of 0.005 nats from 0 on.
    """

    threshold: float
    length: float
    counts: tuple[tuple[int, int], ...]


class AdaptiveThreshold:
    """What prompts of one model have shown so far; shared by all of them, in any thread.

    Args:
        quantile: in (0, 1), of θ among all monitored steps; None for the one at which a chain meets
            ln(M/2) steps of at least θ.
        lowest: θ in nats, below which it never comes.
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
        """Monitored steps seen so far."""
        with self._lock:
            return self._counts.total()

    @property
    def num_chains(self) -> int:
        """Prompts of which the length of a chain is known."""
        with self._lock:
            return self._num_chains

    @property
    def is_ready(self) -> bool:
        """Whether enough is known for a prompt that has shown nothing yet."""
        return self.num_chains >= NUM_CHAINS

    def observe(self, entropies: Iterable[float]) -> Counter[int]:
        """Take in monitored steps; their counts by bin. NaN is no step."""
        counts = Counter(int(entropy / BIN) for entropy in entropies if not math.isnan(entropy))
        with self._lock:
            self._counts += counts
        return counts

    def observe_length(self, length: float) -> None:
        """A prompt's chains have this many tokens, on average."""
        with self._lock:
            self._num_chains += 1
            self._length += length

    def restore(self, histogram: EntropyHistogram) -> None:
        """Take in what an earlier session has stored of a prompt."""
        with self._lock:
            self._counts += Counter(dict(histogram.counts))
        self.observe_length(histogram.length)

    def quantile(self, max_sequences: int) -> float:
        """Of θ at M; 1 as long as no chain is known.

        Where M/2 is below 2, two sequences are aimed at.
        """
        if self._quantile is not None:
            return self._quantile
        with self._lock:
            mean = self._length / max(self._num_chains, 1)
        return 1 - min(math.log(max(max_sequences / 2, 2)) / mean, 1) if mean else 1.0

    def threshold(self, max_sequences: int) -> float:
        """θ at M by now, in nats: the lower edge of the quantile's bin, or `lowest`."""
        wanted = self.quantile(max_sequences)
        with self._lock:
            missing = wanted * self._counts.total()
            for index in sorted(self._counts):
                missing -= self._counts[index]
                if missing <= 0:
                    return max(index * BIN, self.lowest)
        return self.lowest
