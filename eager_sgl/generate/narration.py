"""Narration: the events that lead from one decision on a prompt to the next.

A replay may list the same sequences under other indices, and take branches back. So a sequence is
identified by the branch point where it left its parent, as an object; a sequence without one starts
at the prompt and keeps its index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.core import BranchPoint
from eager_sgl.generate.events import (
    Branched,
    Event,
    SequenceFinished,
    SequenceOpened,
    SequenceWithdrawn,
    TokensAppended,
    TokensWithdrawn,
)
from eager_sgl.schedule import Leaf
from eager_sgl.tree import Segment

__all__ = ["Narrator"]


@dataclass
class _Reported:
    """What has been reported of a sequence.

    Attributes:
        sequence: its id.
        branch: kept, since it identifies the sequence.
        segment: the last one on its path.
        end: number of its tokens.
        is_finished: whether its end has been reported.
    """

    sequence: int
    branch: BranchPoint | None
    segment: Segment
    end: int
    is_finished: bool = False


class Narrator:
    """Compares the leaves of successive decisions on a tree.

    An update costs the number of leaves, and the number of tokens and segments that changed.
    """

    def __init__(self) -> None:
        self._reported: dict[int, _Reported] = {}
        self._num_opened = 0

    def update(self, leaves: Items[Leaf]) -> list[Event]:
        """The events since the last update, without texts.

        Withdrawals are first. Then a sequence is opened before its tokens are appended, in the
        order of the leaves; so a parent holds the tokens that its children share. Ends are last.

        Args:
            leaves: of a decision.
        """
        parents = {leaf.index: leaf for leaf in leaves}
        events = [*self._withdraw_sequences(leaves)]
        for leaf in leaves:
            events += self._withdraw_tokens(leaf)
        for leaf in leaves:
            events += self._open(leaf, parents)
            events += self._append(leaf)
        for leaf in leaves:
            events += self._finish(leaf)
        return events

    def sequence_ids(self, leaves: Iterable[Leaf]) -> tuple[int, ...]:
        """The ids of leaves of the last update."""
        return tuple(self._reported[_identity(leaf)].sequence for leaf in leaves)

    def _withdraw_sequences(self, leaves: Iterable[Leaf]) -> Iterator[Event]:
        present = {_identity(leaf) for leaf in leaves}
        for identity in [key for key in self._reported if key not in present]:
            yield SequenceWithdrawn(self._reported.pop(identity).sequence)

    def _withdraw_tokens(self, leaf: Leaf) -> Iterator[Event]:
        reported = self._reported.get(_identity(leaf))
        if reported is None or reported.segment is leaf.segment:
            return
        num_shared = _num_shared(reported.segment, leaf.segment)
        reported.segment = leaf.segment
        if num_shared < reported.end:
            reported.end, reported.is_finished = num_shared, False
            yield TokensWithdrawn(reported.sequence, num_shared)

    def _open(self, leaf: Leaf, parents: Mapping[int, Leaf]) -> Iterator[Event]:
        if _identity(leaf) in self._reported:
            return
        sequence, self._num_opened = self._num_opened, self._num_opened + 1
        if leaf.parent is None or leaf.branch is None:
            parent, position = None, 0
        else:
            parent, position = self.sequence_ids([parents[leaf.parent]])[0], leaf.branch.position
        self._reported[_identity(leaf)] = _Reported(sequence, leaf.branch, leaf.segment, position)
        yield SequenceOpened(sequence, parent, position)
        if parent is not None and leaf.branch is not None:
            yield Branched(parent, sequence, leaf.branch)

    def _append(self, leaf: Leaf) -> Iterator[Event]:
        reported = self._reported[_identity(leaf)]
        if leaf.segment.end > reported.end:
            token_ids = _tokens_from(reported.end, leaf.segment)
            yield TokensAppended(reported.sequence, reported.end, token_ids)
            reported.end = leaf.segment.end

    def _finish(self, leaf: Leaf) -> Iterator[Event]:
        reported = self._reported[_identity(leaf)]
        if leaf.segment.finish_reason is not None and not reported.is_finished:
            reported.is_finished = True
            yield SequenceFinished(reported.sequence, leaf.segment.finish_reason)


def _identity(leaf: Leaf) -> int:
    """Of a sequence; negative where it has no branch point."""
    return -1 - leaf.index if leaf.branch is None else id(leaf.branch)


def _num_shared(first: Segment, second: Segment) -> int:
    """Number of tokens that the paths to the ends of two segments share."""
    num_shared = 0
    pieces = zip(first.lineage(), second.lineage(), strict=False)
    for (segment, exit_of_first), (other, exit_of_second) in pieces:
        if segment is not other:
            break
        num_shared = min(exit_of_first, exit_of_second)
    return num_shared


def _tokens_from(position: int, segment: Segment) -> tuple[int, ...]:
    """The tokens of the path to the end of a segment, from a position on."""
    pieces = [(segment, segment.end)] if position >= segment.start else segment.lineage()
    return tuple(
        token_id
        for piece, end in pieces
        if end > position
        for token_id in piece.token_ids[max(position - piece.start, 0) : end - piece.start]
    )
