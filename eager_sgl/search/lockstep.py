"""A search's tree as it would be if all of its sequences advanced by one token at a time.

Requests advance at different speeds, and report their tokens in parts. If a search decided on
whatever has arrived, its tree would depend on them: no seed would give it again, and every monitor
would give another one. So time is counted in tokens. At a *moment* of this clock the tree consists
of as many tokens of every segment as it can have had since the segment was opened.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from eager_sgl.tree import Segment, TokenTree

__all__ = ["Lockstep"]


@dataclass(eq=False)
class Lockstep:
    """The clock of a tree.

    Attributes:
        now: tokens since the first segment was opened.
        opened: the moments at which the segments were opened, by index.
    """

    now: int = 0
    opened: list[int] = field(default_factory=list)

    def add_new(self, tree: TokenTree) -> None:
        """Have the segments that are new opened now."""
        self.opened += [self.now] * (len(tree.segments) - len(self.opened))

    def has_arrived(self, tree: TokenTree, moment: int) -> bool:
        """Whether all tokens up to a moment are known."""
        return all(
            segment.finish_reason is not None or _num_drawn(segment) >= self._age(segment, moment)
            for segment in tree.segments
        )

    def num_running(self, tree: TokenTree) -> int:
        """Number of segments whose end is not known by now."""
        return sum(_num_drawn(segment) >= self._age(segment, self.now) for segment in tree.segments)

    def tree_now(self, tree: TokenTree) -> TokenTree:
        """A tree to be read, without the tokens that are still to come."""
        seen = copy.copy(tree)
        seen.segments = []
        for segment in tree.segments:
            seen.segments.append(self._segment_now(segment, seen))
        return seen

    def _segment_now(self, segment: Segment, tree: TokenTree) -> Segment:
        steps, parent = segment.steps, None
        if segment.parent is not None:
            parent = tree.segments[segment.parent.index]
        age = self._age(segment, self.now)
        if _num_drawn(segment) < age:
            return replace(segment, parent=parent)
        length = age + (parent is not None)
        return replace(
            segment,
            parent=parent,
            token_ids=segment.token_ids[:length],
            stored=[] if steps is None else [steps.before(segment.start + length)],
            finish_reason=None,
        )

    def _age(self, segment: Segment, moment: int) -> int:
        return moment - self.opened[segment.index]


def _num_drawn(segment: Segment) -> int:
    """Number of its tokens without that of its branch."""
    return len(segment.token_ids) - (segment.parent is not None)
