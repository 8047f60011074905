"""Which branch points are taken, and what to generate next: EAGer-init over a partly drawn tree.

Generation runs ahead of the decisions: a chunk holds many steps, and sequences of one prompt are
at different depths. So decisions are not made as tokens arrive. They are *replayed* from the root
whenever something has come, step by step and within a step in the order in which the sequences
were opened, just as an implementation that moves all sequences on by one token at a time would
take them.

Every segment was drawn from the model's own conditional distribution, whatever is decided about it
later; so the replay's sequences have the per-token method's distribution, for any chunk size. A
branch taken far ahead may be taken back when a sequence behind it catches up and claims the last
slot first: the segment that it opened is then on no path, and its tokens count as discarded.
"""

from __future__ import annotations

import heapq
import math
import sys
from bisect import bisect_left
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

from eager_sgl.adaptive_threshold import EntropyHistogram
from eager_sgl.core import BranchPoint, DeferredBranch, Sequence
from eager_sgl.tree import Segment, TokenTree

__all__ = [
    "Decision",
    "FixedSchedule",
    "Leaf",
    "Monitored",
    "OnlineSchedule",
    "Schedule",
    "deferred_branches",
    "sequences_of",
]


@dataclass(eq=False)
class Leaf:
    """A sequence in the making.

    Attributes:
        index: the order of opening.
        segment: where its path ends for now.
        parent: index of the leaf it branched off; None for the first of a tree.
        branch: where it did.
        last_branch: position of the last branch on its path, 0 before the first.
    """

    index: int
    segment: Segment
    parent: int | None = None
    branch: BranchPoint | None = None
    last_branch: int = 0


@dataclass(frozen=True)
class Monitored:
    """A segment that is to go on under a monitor.

    Attributes:
        segment: the one.
        steps_since_branch: steps since the last branch on its path.
        max_reports: how many more of its branch points can matter; None for all.
    """

    segment: Segment
    steps_since_branch: int
    max_reports: int | None


@dataclass(frozen=True)
class Decision:
    """What a replay found; segments that it does not name are to wait.

    Attributes:
        leaves: the sequences, in the order of opening.
        monitored: segments that may branch.
        free: segments that nothing can branch on any more.
        entropy_histogram: at an adaptive θ, once all sequences have ended: θ and the entropies.
    """

    leaves: tuple[Leaf, ...]
    monitored: tuple[Monitored, ...]
    free: tuple[Segment, ...]
    entropy_histogram: EntropyHistogram | None = None

    @property
    def num_alive(self) -> int:
        """Sequences that have not ended."""
        return sum(leaf.segment.finish_reason is None for leaf in self.leaves)


class Schedule(Protocol):
    """Decides on the tree of one prompt."""

    def replay(self, tree: TokenTree) -> Decision:
        """Decide on everything that is known; opens the segments that the decisions need."""


@dataclass(frozen=True)
class FixedSchedule:
    """Sequences that nothing branches: all are drawn to their ends at once."""

    leaves: tuple[Leaf, ...]

    def replay(self, tree: TokenTree) -> Decision:
        """The sequences that have not ended go on."""
        alive = (leaf.segment for leaf in self.leaves if leaf.segment.finish_reason is None)
        return Decision(self.leaves, (), tuple(alive))


@dataclass(frozen=True)
class OnlineSchedule:
    """The paper's order: first come, first served, by position.

    Attributes:
        max_sequences: M.
        patience: steps without a branch after which nothing is monitored any more.
        threshold: θ in nats; branch points below it are known, but never taken.
        keep_deferred: monitor on when no slot is left, to know where branches were deferred.
    """

    max_sequences: int
    patience: int
    threshold: float = 0.0
    keep_deferred: bool = False

    def replay(self, tree: TokenTree) -> Decision:
        """Decide on everything that is known; opens the segments that taken branches need."""
        leaves, limit = self._take_branches(tree)
        alive = [h for h in leaves if h.segment.finish_reason is None]
        is_full = len(leaves) >= self.max_sequences
        if is_full and self.keep_deferred:
            limit = (sys.maxsize, 0)
        monitored = [
            h for h in alive if not h.segment.reasoning_closed and (h.segment.end, h.index) < limit
        ]
        # Further branches can move the limit forward only where patience sets it. Then a sequence
        # that has reached it waits for those behind, so as not to miss steps that count again.
        free = [
            h
            for h in alive
            if h not in monitored and (is_full or h.segment.reasoning_closed or not monitored)
        ]
        return Decision(
            tuple(leaves),
            tuple(self._monitored(leaf, leaves) for leaf in monitored),
            tuple(leaf.segment for leaf in free),
        )

    def _monitored(self, leaf: Leaf, leaves: Items[Leaf]) -> Monitored:
        segment, max_reports = leaf.segment, None
        if not self.keep_deferred:
            # A point that comes may take its slot from a branch that was taken ahead of it.
            max_reports = self.max_sequences - sum(
                other.branch is None or other.branch.position < segment.end for other in leaves
            )
        return Monitored(segment, segment.end - leaf.last_branch, max_reports)

    def _take_branches(self, tree: TokenTree) -> tuple[list[Leaf], tuple[int, int]]:
        """The leaves, and the (position, leaf) from which on no branch can be taken."""
        leaves = [Leaf(0, tree.segments[0])]
        pending: list[tuple[int, int, BranchPoint]] = []
        self._push_next(pending, leaves[0], 0)
        last = (-1, -1)
        while pending and len(leaves) < self.max_sequences:
            position, index, point = heapq.heappop(pending)
            if position - last[0] > self.patience:
                break
            last = (position, index)
            for leaf in _split(tree, leaves, leaves[index], point):
                self._push_next(pending, leaf, position + 1)
        if len(leaves) >= self.max_sequences:
            return leaves, last
        return leaves, (last[0] + self.patience + 1, 0)

    def _push_next(
        self, pending: list[tuple[int, int, BranchPoint]], leaf: Leaf, position: int
    ) -> None:
        points = leaf.segment.branch_points
        for place in range(bisect_left(points, position, key=lambda p: p.position), len(points)):
            if points[place].entropy >= self.threshold:
                heapq.heappush(pending, (points[place].position, leaf.index, points[place]))
                return


def _split(tree: TokenTree, leaves: list[Leaf], parent: Leaf, point: BranchPoint) -> Items[Leaf]:
    """The parent goes on with the most likely token, a new leaf with the second."""
    segment = parent.segment
    parent.segment = tree.branch(segment, point, 0)
    child = Leaf(len(leaves), tree.branch(segment, point, 1), parent.index, point)
    parent.last_branch = child.last_branch = point.position
    leaves.append(child)
    return parent, child


def sequences_of(leaves: Items[Leaf]) -> tuple[Sequence, ...]:
    """The finished sequences, texts still empty."""
    return tuple(_sequence(leaf) for leaf in leaves)


def _sequence(leaf: Leaf) -> Sequence:
    assert leaf.segment.finish_reason is not None, f"sequence {leaf.index} has not ended"
    raw = sum(leaf.segment.path_raw_logprobs())
    return Sequence(
        token_ids=tuple(leaf.segment.path()),
        logprobs=tuple(leaf.segment.path_logprobs()),
        finish_reason=leaf.segment.finish_reason,
        parent=leaf.parent,
        branch=leaf.branch,
        entropies=tuple(leaf.segment.path_entropies()),
        raw_logprob=None if math.isnan(raw) else raw,
    )


def deferred_branches(leaves: Items[Leaf]) -> tuple[DeferredBranch, ...]:
    """The branch points on the sequences' paths that nobody took, highest entropy first.

    One on a prefix that several sequences share belongs to the first of them.
    """
    seen = {id(leaf.branch) for leaf in leaves}
    deferred = []
    for leaf in leaves:
        for segment, end in leaf.segment.lineage():
            for point in segment.branch_points:
                if point.position < end and id(point) not in seen:
                    seen.add(id(point))
                    deferred.append(DeferredBranch(leaf.index, point))
    return tuple(sorted(deferred, key=lambda branch: -branch.point.entropy))
