"""The limits and the sequences of a search, and rounds, which all searches can have.

A round opens several untried tokens of the tree at once, as forks on prefixes that the radix cache
holds, when all sequences before it have ended. Searches for which nothing is asked before a round
may do without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from eager_sgl.config import (
    REASONING_END,
    TOP_K,
    MonitorChoice,
    SamplingConfig,
    require,
    require_monitor,
    require_whole,
)
from eager_sgl.core import BranchPoint
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.signals import top_k_entropy
from eager_sgl.steps import ranks_of
from eager_sgl.tree import Segment, TokenTree

__all__ = ["Bid", "IsEnough", "SearchConfig", "SearchSchedule", "branch_point", "round_sizes"]

IsEnough = Callable[[TokenTree, Sequence[Leaf]], bool]
"""Whether the finished sequences are enough; asked before every round."""

Bid = Callable[[TokenTree, Sequence[Leaf], float], "Future[bool]"]
"""A bid for the next round, which is expected to cost the given number of tokens; made before every
round. False ends the search."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The limits of a search over the tree of a prompt.

    Attributes:
        max_sequences: M, the maximum number of sequences of a prompt.
        width: maximum number of sequences that best-first keeps running, or that a round opens; 1
            is the exact rule. A round opens at most as many as the prompt has: 1, 1, 2, 4, 8, 16, …
        max_tokens: number of generated tokens at which the search ends; None for no limit.
        top_k: K, the number of most likely tokens known of a step; the size of the vocabulary where
            that is smaller.
        monitor: how steps are observed. "gate": the server reports those to be stored. "chunk": it
            returns the alternatives of all steps, which is slower. "auto": the gate where the
            server has the plugin, else as "chunk".
        reasoning_end: the text that closes the reasoning; best-first opens nothing after it.
        sampling: how the rest of an opened sequence is sampled.
    """

    max_sequences: int = 32
    width: int = 16
    max_tokens: int | None = None
    top_k: int = TOP_K
    monitor: MonitorChoice = "auto"
    reasoning_end: str | None = REASONING_END
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        require_whole("top_k", self.top_k, 2)
        require_whole("max_sequences", self.max_sequences, 1)
        require_whole("width", self.width, 1)
        if self.max_tokens is not None:
            require_whole("max_tokens", self.max_tokens, 1)
        require_monitor(self.monitor)
        require(self.reasoning_end != "", "reasoning_end", "''", "a text, or None")


@dataclass(kw_only=True)
class SearchSchedule:
    """A search in rounds; subclasses implement `open_round`.

    Attributes:
        config: its limits, with the M of the prompt.
        stop: ends the search early; None for never.
        bid: bids for the tokens that searches share; None for no shared tokens.
        leaves: the sequences so far, in the order of opening.
    """

    config: SearchConfig
    stop: IsEnough | None = None
    bid: Bid | None = None
    leaves: list[Leaf] = field(default_factory=list)
    _made: Future[bool] | None = field(default=None, init=False)
    _waiting: Future[bool] | None = field(default=None, init=False)

    @property
    def is_asked_before_rounds(self) -> bool:
        """Whether a stop rule, a bid or `max_tokens` decides on every round."""
        return bool(self.stop or self.bid) or self.config.max_tokens is not None

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Add up to `max_new` sequences, new paths by `open`.

        Returns:
            How many were added; 0 ends the search where nothing is left to draw.
        """
        raise NotImplementedError

    def replay(self, tree: TokenTree) -> Decision:
        """The unfinished sequences; where all have finished, those of the next round."""
        if not self.leaves:
            self.leaves.append(Leaf(0, tree.segments[0]))
        alive = self._alive()
        while not alive and self._may_open(tree) and self.open_round(tree, self._max_new()):
            alive = self._alive()
        segments = tuple(leaf.segment for leaf in alive)
        return Decision(tuple(self.leaves), (), segments, bid=None if alive else self._waiting)

    def open(
        self,
        tree: TokenTree,
        parent: Segment,
        position: int,
        rank: int,
        priority: float | None = None,
    ) -> Leaf:
        """Add a sequence that leaves a segment for an untried token.

        Args:
            position: of a stored step of `parent`.
            rank: of the token among the K of that step, 0 for the most likely one.
            priority: the value that the token was chosen for.
        """
        point = branch_point(parent, position, rank, priority)
        return self.add(parent, tree.branch(parent, point, 1), point)

    def add(self, parent: Segment, segment: Segment, point: BranchPoint) -> Leaf:
        """Add the sequence of a segment that left `parent`."""
        leaf = next(leaf for leaf in self.leaves if leaf.segment is parent)
        self.leaves.append(Leaf(len(self.leaves), segment, leaf.index, point))
        return self.leaves[-1]

    def _alive(self) -> list[Leaf]:
        return [leaf for leaf in self.leaves if leaf.segment.finish_reason is None]

    def _max_new(self) -> int:
        return _round_limit(len(self.leaves), self.config.width, self.config.max_sequences)

    def _may_open(self, tree: TokenTree) -> bool:
        if self._max_new() < 1:
            return False
        if self._made is not None:
            return self._is_granted()
        max_tokens = self.config.max_tokens
        if max_tokens is not None and tree.spent.generated >= max_tokens:
            return False
        if self.stop is not None and self.stop(tree, self.leaves):
            return False
        if self.bid is None:
            return True
        self._made = self.bid(tree, self.leaves, self._expected_cost(tree))
        return self._is_granted()

    def _is_granted(self) -> bool:
        """Whether the bid that was made is granted; the next round needs another."""
        assert self._made is not None, "no bid was made"
        self._waiting = None if self._made.done() else self._made
        if self._waiting is not None or not self._made.result():
            return False  # a refusal is final
        self._made = None
        return True

    def _expected_cost(self, tree: TokenTree) -> float:
        """Tokens of the next round, if its sequences cost as much as those so far on average."""
        return tree.spent.generated / len(self.leaves) * self._max_new()


def round_sizes(max_sequences: int, width: int) -> list[int]:
    """Number of sequences after each round, up to all of them: 1, 2, 4, 8, 16, 24, … at width 8.

    Rounds of trie-cached sampling may be smaller: a sample waits where its segment is unfinished.
    """
    sizes = [1]
    while sizes[-1] < max_sequences:
        sizes.append(sizes[-1] + _round_limit(sizes[-1], width, max_sequences))
    return sizes


def _round_limit(num_sequences: int, width: int, max_sequences: int) -> int:
    """Sequences that a round may add to those that there are."""
    return min(width, num_sequences, max_sequences - num_sequences)


def branch_point(
    segment: Segment, position: int, rank: int, priority: float | None = None
) -> BranchPoint:
    """A stored step with the token of the segment and an untried one; all at temperature 1."""
    steps = segment.steps
    assert steps is not None, f"segment {segment.index} has no stored steps"
    step = int(np.searchsorted(steps.positions, position))
    taken = segment.token_ids[position - segment.start]
    taken_rank = int(ranks_of(steps.token_ids[[step]], np.array([taken], np.int32))[0])
    logprobs = steps.logprobs[step].astype(np.float64)
    probabilities = np.exp(logprobs)
    return BranchPoint(
        position=position,
        entropy=float(top_k_entropy(probabilities)),
        token_ids=(taken, int(steps.token_ids[step, rank])),
        probabilities=(float(probabilities[taken_rank]), float(probabilities[rank])),
        logprobs=(float(logprobs[taken_rank]), float(logprobs[rank])),
        sampled=taken,
        priority=priority,
    )
