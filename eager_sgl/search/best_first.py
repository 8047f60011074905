"""Searches: look at a prompt's whole tree, and spend the next sequence where it is worth most.

Every sequence is drawn to its end in one request. Then a few places of the tree are opened at once,
as forks on prefixes that the radix cache holds. Nothing is ever discarded, no path is opened twice,
and no θ has to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from eager_sgl.core import BranchPoint
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.frontier import Candidates, candidates
from eager_sgl.search.priorities import Priority
from eager_sgl.tree import Segment, TokenTree

__all__ = ["BestFirstSchedule", "IsEnough", "MayCost", "SearchSchedule"]

IsEnough = Callable[[TokenTree, Sequence[Leaf]], bool]
"""Whether the finished sequences are enough; asked before every round."""

MayCost = Callable[[TokenTree, Sequence[Leaf], float], bool]
"""Whether a round may cost so many tokens; asked before every round, and no is final."""


@dataclass(kw_only=True)
class SearchSchedule:
    """Rounds that open several places of a tree at once; what they are, a subclass says.

    Attributes:
        max_sequences: M.
        width: places opened in a round, at most; never more than there are sequences, since what
            they show says where to go on.
        max_tokens: generated tokens from which on nothing is opened; None for no such limit.
        stop: ends the search early; None for never.
        may_cost: where searches share their tokens; None for no such limit.
        leaves: the sequences so far, in the order of opening.
    """

    max_sequences: int
    width: int = 1
    max_tokens: int | None = None
    stop: IsEnough | None = None
    may_cost: MayCost | None = None
    leaves: list[Leaf] = field(default_factory=list)

    def open_round(self, tree: TokenTree, room: int) -> int:
        """Open up to `room` places with `open`, or `add` sequences; how many those were."""
        raise NotImplementedError

    def replay(self, tree: TokenTree) -> Decision:
        """What is to be drawn next: the sequences that have not ended, or else the next round's."""
        if not self.leaves:
            self.add(tree.segments[0])
        alive = self._alive()
        while not alive and self._may_open(tree) and self.open_round(tree, self._room()):
            alive = self._alive()
        return Decision(tuple(self.leaves), (), tuple(leaf.segment for leaf in alive))

    def _alive(self) -> list[Leaf]:
        return [leaf for leaf in self.leaves if leaf.segment.finish_reason is None]

    def _room(self) -> int:
        return min(self.width, len(self.leaves), self.max_sequences - len(self.leaves))

    def _may_open(self, tree: TokenTree) -> bool:
        if self._room() < 1:
            return False
        if self.max_tokens is not None and tree.spent.generated >= self.max_tokens:
            return False
        if self.stop is not None and self.stop(tree, self.leaves):
            return False
        return self.may_cost is None or self.may_cost(tree, self.leaves, self._expected(tree))

    def _expected(self, tree: TokenTree) -> float:
        """Tokens of the next round, if its sequences cost what those so far have."""
        return tree.spent.generated / len(self.leaves) * self._room()

    def open(self, tree: TokenTree, parent: Segment, point: BranchPoint) -> None:
        """A new sequence that leaves a segment for the second token of a point."""
        segment = tree.branch(parent, point, 1)
        leaf = next(leaf for leaf in self.leaves if leaf.segment is parent)
        self.leaves.append(Leaf(len(self.leaves), segment, leaf.index, point))

    def add(self, segment: Segment) -> None:
        """A sequence of its own, though it may be the same as an earlier one."""
        self.leaves.append(Leaf(len(self.leaves), segment))


@dataclass(kw_only=True)
class BestFirstSchedule(SearchSchedule):
    """Opens the best entries of the frontier.

    Attributes:
        priority: what is best.
    """

    priority: Priority

    def open_round(self, tree: TokenTree, room: int) -> int:
        """Open the best entries; of equal ones the first in the order of the candidates."""
        found = candidates(tree, self.priority.reshaping)
        values = self.priority(found)
        best = [int(index) for index in np.argsort(-values, kind="stable")[:room]]
        chosen = [index for index in best if values[index] > -np.inf]
        for index in chosen:
            parent = tree.segments[found.segments[index]]
            self.open(tree, parent, _branch_point(found, index, float(values[index])))
        return len(chosen)


def _branch_point(found: Candidates, index: int, value: float) -> BranchPoint:
    taken = int(found.taken_ids[index])
    probabilities = (float(found.taken_probabilities[index]), float(found.probabilities[index]))
    return BranchPoint(
        position=int(found.positions[index]),
        entropy=float(found.entropies[index]),
        token_ids=(taken, int(found.token_ids[index])),
        probabilities=probabilities,
        logprobs=(float(np.log(probabilities[0])), float(np.log(probabilities[1]))),
        sampled=taken,
        priority=value,
    )
