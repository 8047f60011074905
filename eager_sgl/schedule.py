"""Schedules: which branch points are taken, and which segments are generated next.

Generation runs ahead of decisions: a chunk holds many steps, and the sequences of a prompt are at
different depths. So decisions are not made when tokens arrive. After every answer they are
*replayed* from the root, by position and then by order of opening, as an implementation that
advances all sequences by one token at a time would make them.

Every segment is drawn from the model's conditional distribution, whatever is decided on it later;
so the sequences have the distribution of the per-token method, for any chunk size. A branch far
ahead is undone when a sequence behind it takes the last slot at an earlier position: its segment is
then on no path, and its tokens count as discarded.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Sequence as Items
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from eager_sgl.adaptive_threshold import EntropyHistogram
from eager_sgl.core import BranchPoint, DeferredBranch, Sequence
from eager_sgl.plugin.vocabulary import Gate
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
    """A sequence of the tree, finished or not: the path to the end of a segment.

    Attributes:
        index: in the order of opening, or of the samples.
        segment: the last segment of its path; a branch may replace it.
        parent: `index` of the leaf it branched off; None for the first leaf of a tree.
        branch: the branch point where it left the parent.
        last_branch: position of the last branch on its path; 0 before the first.
    """

    index: int
    segment: Segment
    parent: int | None = None
    branch: BranchPoint | None = None
    last_branch: int = 0


@dataclass(frozen=True)
class Monitored:
    """A segment that continues under a monitor.

    Attributes:
        steps_since_branch: steps since the last branch on its path.
        max_reports: number of further branch points that can be taken; None where all are reported.
        threshold: θ in nats, where it is above that of the method's gate; None where it is not.
    """

    segment: Segment
    steps_since_branch: int
    max_reports: int | None
    threshold: float | None = None

    def narrowed(self, gate: Gate) -> Gate:
        """The method's gate, which is to report the steps of the segment that may branch."""
        threshold = gate.threshold if self.threshold is None else self.threshold
        return replace(gate, threshold=threshold, max_reports=self.max_reports)


@dataclass(frozen=True)
class Decision:
    """The result of a replay; segments in none of its fields wait.

    Attributes:
        leaves: the sequences, a parent before its children. Their indices have gaps where samples
            wait.
        monitored: segments that continue, and may branch.
        free: segments that continue, and can no longer branch.
        entropy_histogram: at an adaptive θ, once all sequences have ended; else None.
        bid: whether the next round may begin, once that is decided; None if nothing waits for it.
        awaited: segments that continue, on whose next tokens decisions depend.
        drawn: segments whose first token is to be drawn, before they are part of a sequence.
        probes: unfinished probes of segments that continue.
    """

    leaves: tuple[Leaf, ...]
    monitored: tuple[Monitored, ...]
    free: tuple[Segment, ...]
    entropy_histogram: EntropyHistogram | None = None
    bid: Future[bool] | None = None
    awaited: frozenset[Segment] = frozenset()
    drawn: tuple[Segment, ...] = ()
    probes: tuple[Segment, ...] = ()

    @property
    def num_alive(self) -> int:
        """Number of sequences that have not ended, those to be drawn included."""
        unfinished = sum(leaf.segment.finish_reason is None for leaf in self.leaves)
        return unfinished + len(self.drawn)


class Schedule(Protocol):
    """Decides on the tree of a prompt."""

    def replay(self, tree: TokenTree) -> Decision:
        """Decide on all tokens that the tree holds; opens the segments of new sequences."""


@dataclass(frozen=True)
class FixedSchedule:
    """Sequences that do not branch: all are generated to their ends at once."""

    leaves: tuple[Leaf, ...]

    def replay(self, tree: TokenTree) -> Decision:
        alive = (leaf.segment for leaf in self.leaves if leaf.segment.finish_reason is None)
        return Decision(self.leaves, (), tuple(alive))


@dataclass(frozen=True)
class OnlineSchedule:
    """EAGer-init: branch points of at least θ are taken by position, until there are M sequences.

    Attributes:
        max_sequences: M.
        patience: steps without a branch after which nothing is monitored.
        threshold: θ in nats; branch points below it are deferred.
        keep_deferred: whether sequences stay monitored when there are M, to find deferred branches.
    """

    max_sequences: int
    patience: int
    threshold: float = 0.0
    keep_deferred: bool = False

    def replay(self, tree: TokenTree) -> Decision:
        leaves, limit = self._take_branches(tree)
        alive = [leaf for leaf in leaves if leaf.segment.finish_reason is None]
        is_full = len(leaves) >= self.max_sequences
        if is_full and self.keep_deferred:
            limit = (math.inf, 0)
        monitored = [
            leaf
            for leaf in alive
            if not leaf.segment.reasoning_closed and (leaf.segment.end, leaf.index) < limit
        ]
        # Further branches move the limit forward only where patience sets it. A sequence at such a
        # limit waits for those behind it, since its next steps may have to be monitored.
        free = [
            leaf
            for leaf in alive
            if leaf not in monitored and (is_full or leaf.segment.reasoning_closed or not monitored)
        ]
        return Decision(
            tuple(leaves),
            tuple(self._monitored(leaf, leaves) for leaf in monitored),
            tuple(leaf.segment for leaf in free),
        )

    def _monitored(self, leaf: Leaf, leaves: Items[Leaf]) -> Monitored:
        segment, max_reports = leaf.segment, None
        if not self.keep_deferred:
            # A new branch point may take its slot from a branch at a later position.
            max_reports = self.max_sequences - sum(
                other.branch is None or other.branch.position < segment.end for other in leaves
            )
        return Monitored(segment, segment.end - leaf.last_branch, max_reports)

    def _take_branches(self, tree: TokenTree) -> tuple[list[Leaf], tuple[float, int]]:
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
        for index in range(bisect_left(points, position, key=lambda p: p.position), len(points)):
            if points[index].entropy >= self.threshold:
                heapq.heappush(pending, (points[index].position, leaf.index, points[index]))
                return


def _split(tree: TokenTree, leaves: list[Leaf], parent: Leaf, point: BranchPoint) -> Items[Leaf]:
    """The parent continues with the most likely token, a new leaf with the second."""
    segment = parent.segment
    parent.segment = tree.branch(segment, point, 0)
    child = Leaf(len(leaves), tree.branch(segment, point, 1), parent.index, point)
    parent.last_branch = child.last_branch = point.position
    leaves.append(child)
    return parent, child


def sequences_of(leaves: Items[Leaf]) -> tuple[Sequence, ...]:
    """The sequences of leaves, without texts; unfinished ones end with "abort"."""
    return tuple(_sequence(leaf) for leaf in leaves)


def _sequence(leaf: Leaf) -> Sequence:
    raw = sum(leaf.segment.path_raw_logprobs())
    return Sequence(
        token_ids=tuple(leaf.segment.path()),
        logprobs=tuple(leaf.segment.path_logprobs()),
        finish_reason=leaf.segment.finish_reason or "abort",
        parent=leaf.parent,
        branch=leaf.branch,
        entropies=tuple(leaf.segment.path_entropies()),
        raw_logprob=None if math.isnan(raw) else raw,
        confidences=tuple(leaf.segment.path_confidences()),
    )


def deferred_branches(leaves: Items[Leaf]) -> tuple[DeferredBranch, ...]:
    """The branch points on the paths of sequences that were not taken, highest entropy first.

    A branch point on a shared prefix is listed for the first sequence that holds it.
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
