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

from eager_sgl.core import BranchPoint, RefusedBranch, Sequence
from eager_sgl.tree import Segment, TokenTree

__all__ = [
    "Head",
    "OnlineSchedule",
    "Selection",
    "Watch",
    "refused_branches",
    "sequences_of",
]


@dataclass(eq=False)
class Head:
    """A sequence in the making.

    Attributes:
        index: the order of opening.
        segment: where its path ends for now.
        parent: index of the head it branched off; None for the first of a tree.
        branch: where it did.
        last_branch: position of the last branch on its path, 0 before the first.
    """

    index: int
    segment: Segment
    parent: int | None = None
    branch: BranchPoint | None = None
    last_branch: int = 0


@dataclass(frozen=True)
class Watch:
    """A segment that is to go on under a monitor.

    Attributes:
        segment: the one.
        calm: steps since the last branch on its path.
        most: how many more of its branch points can matter; None for all.
    """

    segment: Segment
    calm: int
    most: int | None


@dataclass(frozen=True)
class Selection:
    """What a replay found; segments that it does not name are to wait.

    Attributes:
        heads: the sequences, in the order of opening.
        watched: what may branch.
        free: segments that nothing can branch on any more.
    """

    heads: tuple[Head, ...]
    watched: tuple[Watch, ...]
    free: tuple[Segment, ...]

    @property
    def num_alive(self) -> int:
        """Sequences that have not ended."""
        return sum(head.segment.finish_reason is None for head in self.heads)


@dataclass(frozen=True)
class OnlineSchedule:
    """The paper's order: first come, first served, by position.

    Attributes:
        max_sequences: M.
        patience: steps without a branch after which nothing is monitored any more.
        threshold: θ in nats; branch points below it are known, but never taken.
        keep_refused: monitor on when no slot is left, to know where branches were refused.
    """

    max_sequences: int
    patience: int
    threshold: float = 0.0
    keep_refused: bool = False

    def replay(self, tree: TokenTree) -> Selection:
        """Decide on everything that is known; opens the segments that taken branches need."""
        heads, limit = self._take_branches(tree)
        alive = [h for h in heads if h.segment.finish_reason is None]
        is_full = len(heads) >= self.max_sequences
        if is_full and self.keep_refused:
            limit = (sys.maxsize, 0)
        watched = [
            h for h in alive if not h.segment.reasoning_closed and (h.segment.end, h.index) < limit
        ]
        # Further branches can move the limit forward only where patience sets it. Then a sequence
        # that has reached it waits for those behind, so as not to miss steps that count again.
        free = [
            h
            for h in alive
            if h not in watched and (is_full or h.segment.reasoning_closed or not watched)
        ]
        return Selection(
            tuple(heads),
            tuple(self._watch(head, heads) for head in watched),
            tuple(head.segment for head in free),
        )

    def _watch(self, head: Head, heads: Items[Head]) -> Watch:
        segment, most = head.segment, None
        if not self.keep_refused:
            # A point that comes may take its slot from a branch that was taken ahead of it.
            most = self.max_sequences - sum(
                other.branch is None or other.branch.position < segment.end for other in heads
            )
        return Watch(segment, segment.end - head.last_branch, most)

    def _take_branches(self, tree: TokenTree) -> tuple[list[Head], tuple[int, int]]:
        """The heads, and the (position, head) from which on no branch can be taken."""
        heads = [Head(0, tree.segments[0])]
        pending: list[tuple[int, int, BranchPoint]] = []
        self._push_next(pending, heads[0], 0)
        last = (-1, -1)
        while pending and len(heads) < self.max_sequences:
            position, index, point = heapq.heappop(pending)
            if position - last[0] > self.patience:
                break
            last = (position, index)
            for head in _split(tree, heads, heads[index], point):
                self._push_next(pending, head, position + 1)
        if len(heads) >= self.max_sequences:
            return heads, last
        return heads, (last[0] + self.patience + 1, 0)

    def _push_next(
        self, pending: list[tuple[int, int, BranchPoint]], head: Head, position: int
    ) -> None:
        points = head.segment.branch_points
        for place in range(bisect_left(points, position, key=lambda p: p.position), len(points)):
            if points[place].entropy >= self.threshold:
                heapq.heappush(pending, (points[place].position, head.index, points[place]))
                return


def _split(tree: TokenTree, heads: list[Head], parent: Head, point: BranchPoint) -> Items[Head]:
    """The parent goes on with the most likely token, a new head with the second."""
    segment = parent.segment
    parent.segment = tree.branch(segment, point, 0)
    child = Head(len(heads), tree.branch(segment, point, 1), parent.index, point)
    parent.last_branch = child.last_branch = point.position
    heads.append(child)
    return parent, child


def sequences_of(heads: Items[Head]) -> tuple[Sequence, ...]:
    """The finished sequences, texts still empty."""
    return tuple(_sequence(head) for head in heads)


def _sequence(head: Head) -> Sequence:
    assert head.segment.finish_reason is not None, f"sequence {head.index} has not ended"
    raw = sum(head.segment.path_raw_logprobs())
    return Sequence(
        token_ids=tuple(head.segment.path()),
        logprobs=tuple(head.segment.path_logprobs()),
        finish_reason=head.segment.finish_reason,
        parent=head.parent,
        branch=head.branch,
        entropies=tuple(head.segment.path_entropies()),
        raw_logprob=None if math.isnan(raw) else raw,
    )


def refused_branches(heads: Items[Head]) -> tuple[RefusedBranch, ...]:
    """The branch points on the sequences' paths that nobody took, highest entropy first.

    One on a prefix that several sequences share belongs to the first of them.
    """
    seen = {id(head.branch) for head in heads}
    refused = []
    for head in heads:
        for segment, end in head.segment.lineage():
            for point in segment.branch_points:
                if point.position < end and id(point) not in seen:
                    seen.add(id(point))
                    refused.append(RefusedBranch(head.index, point))
    return tuple(sorted(refused, key=lambda branch: -branch.point.entropy))
