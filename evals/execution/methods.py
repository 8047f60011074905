"""The methods of a run by name, and the object that a cell's name stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eager_sgl import (
    RULES,
    AdaptiveThreshold,
    BestFirst,
    Bidder,
    EagerInit,
    FullParallel,
    Method,
    Stop,
    TrieParallel,
    WithoutReplacement,
)
from evals.config.settings import Settings
from evals.records.plan import (
    BEST_FIRST,
    PARALLEL,
    SEARCHES,
    STAGE_ONE,
    SWOR,
    TRIE_PARALLEL,
    Cell,
)

__all__ = ["METHODS", "PromptParts", "method_of"]

METHODS = (PARALLEL, STAGE_ONE, *RULES, *SEARCHES)


@dataclass(frozen=True)
class PromptParts:
    """The parts of a method that a run's settings do not know.

    Attributes:
        stop: ends a search of the prompt early; None for never.
        bidder: the prompt's part of the tokens that a search shares with others.
        adaptive_threshold: gives EAGer-init its θ; None where that is fixed.
    """

    stop: Stop | None = None
    bidder: Bidder | None = None
    adaptive_threshold: AdaptiveThreshold | None = None


def _full_parallel(run: Settings, cell: Cell, parts: PromptParts) -> Method:
    config = run.config(cell)
    return FullParallel(config.sampling, config.max_sequences, config.reasoning_end)


def _eager_init(run: Settings, cell: Cell, parts: PromptParts) -> Method:
    return EagerInit(run.config(cell), parts.adaptive_threshold)


def _best_first(run: Settings, cell: Cell, parts: PromptParts) -> Method:
    config = run.search_config(cell)
    return BestFirst(config, priority=run.priority, stop=parts.stop, bidder=parts.bidder)


def _without_replacement(run: Settings, cell: Cell, parts: PromptParts) -> Method:
    config = run.search_config(cell)
    return WithoutReplacement(config, seed=cell.seed, stop=parts.stop, bidder=parts.bidder)


def _trie_parallel(run: Settings, cell: Cell, parts: PromptParts) -> Method:
    config = run.search_config(cell)
    return TrieParallel(config, seed=cell.seed, stop=parts.stop, bidder=parts.bidder)


_FIRST_STAGES: dict[str, Callable[[Settings, Cell, PromptParts], Method]] = {
    PARALLEL: _full_parallel,
    STAGE_ONE: _eager_init,
    BEST_FIRST: _best_first,
    SWOR: _without_replacement,
    TRIE_PARALLEL: _trie_parallel,
}


def method_of(cell: Cell, run: Settings, parts: PromptParts) -> Method:
    """The method of one stage, or the first of two, for one prompt in a cell."""
    return _FIRST_STAGES[cell.method](run, cell, parts)
