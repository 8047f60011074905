"""Searches by the names of the command line, from one set of arguments."""

from __future__ import annotations

from typing import Any

from eager_sgl import BestFirst, Search, SearchConfig, TrieParallel, WithoutReplacement

__all__ = ["search_of"]


def search_of(
    order: str = "best_first",
    *,
    seed: int | None = 0,
    priority: Any = BestFirst.priority,
    stop: Any = None,
    bidder: Any = None,
    **config: Any,
) -> Search:
    """A search; the seed is that of sampling, the priority that of best-first."""
    given = SearchConfig(**config)
    if order == "best_first":
        return BestFirst(given, priority=priority, stop=stop, bidder=bidder)
    sampling = {"swor": WithoutReplacement, "trie_parallel": TrieParallel}
    return sampling[order](given, seed=seed, stop=stop, bidder=bidder)
