"""The ways to generate that are compared, by the names that options take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    Method,
    SamplingConfig,
    SearchConfig,
    TrieParallel,
    WithoutReplacement,
)

__all__ = [
    "MONITORS",
    "PLAIN",
    "SEARCHES",
    "SEARCH_MONITORS",
    "Contender",
    "contenders",
    "searches_of",
]

MONITORS: Mapping[str, Literal["gate", "chunk"]] = {
    "gate": "gate",
    "chunk": "chunk",
    "step": "chunk",
}
"""`EagerConfig.monitor` by the name of a compared monitor; "step" is chunks of one token."""
SEARCH_MONITORS: Mapping[str, Literal["gate", "chunk"]] = {"gate": "gate", "chunk": "chunk"}
"""`SearchConfig.monitor` by name."""
SEARCHES: Mapping[str, type[TrieParallel | BestFirst | WithoutReplacement]] = {
    "trie_parallel": TrieParallel,
    "best_first": BestFirst,
    "swor": WithoutReplacement,
}
EAGER_INIT, PARALLEL, BEST_FIRST = "eager_init", "parallel", "best_first"


@dataclass(frozen=True)
class Contender:
    """A way to generate.

    Attributes:
        method: "parallel", "eager_init", or one of `SEARCHES`.
        monitor: "plain", one of `MONITORS`, or one of `SEARCH_MONITORS`.
        chunk_tokens: None where it has no effect.
        width: `SearchConfig.width`; None for the default, and where it has no effect.
        once: too slow to be repeated.
    """

    method: str
    monitor: str
    chunk_tokens: int | None = None
    width: int | None = None
    once: bool = False

    def build(
        self, threshold: float | None, max_sequences: int, sampling: SamplingConfig
    ) -> Method:
        """The method object.

        Args:
            threshold: θ in nats, of EAGer-init alone.
        """
        if self.method == PARALLEL:
            return FullParallel(sampling, max_sequences)
        if self.method == EAGER_INIT:
            assert threshold is not None, "EAGer-init without θ"
            return EagerInit(self._config(threshold, max_sequences, sampling))
        config = SearchConfig(
            max_sequences=max_sequences,
            width=self.width or SearchConfig.width,
            sampling=sampling,
            monitor=SEARCH_MONITORS[self.monitor],
        )
        return SEARCHES[self.method](config)

    def _config(
        self, threshold: float, max_sequences: int, sampling: SamplingConfig
    ) -> EagerConfig:
        return EagerConfig(
            threshold=threshold,
            monitor=MONITORS[self.monitor],
            max_sequences=max_sequences,
            chunk_tokens=self.chunk_tokens or 64,
            sampling=sampling,
        )


PLAIN = Contender(PARALLEL, "plain")


def contenders(monitors: Sequence[str], chunk_sizes: Sequence[int]) -> list[Contender]:
    """EAGer-init by every monitor, and by `chunk` with each size."""
    ways = {
        "chunk": [Contender(EAGER_INIT, "chunk", size) for size in chunk_sizes],
        "step": [Contender(EAGER_INIT, "step", 1, once=True)],
    }
    return [way for name in monitors for way in ways.get(name, [Contender(EAGER_INIT, name)])]


def searches_of(
    names: Sequence[str], monitors: Sequence[str], widths: Sequence[int] = ()
) -> list[Contender]:
    """Every search by every monitor; best-first with every width."""
    return [
        Contender(name, monitor, width=width)
        for name in names
        for width in (widths if name == BEST_FIRST and widths else (None,))
        for monitor in monitors
    ]
