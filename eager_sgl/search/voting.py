"""Independent samples until their vote is decided."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.sampling import TrieParallelSchedule
from eager_sgl.search.votes import leading_votes, majority_confidence
from eager_sgl.tree import TokenTree

__all__ = ["VoteSchedule", "num_missing_votes"]


def num_missing_votes(leading: int, second: int, confidence: float, max_votes: int) -> int:
    """Votes for the leading answer with which `majority_confidence` is above a confidence.

    Returns:
        The smallest number; `max_votes` if it is larger.
    """
    votes = range(max_votes)
    return next(
        (n for n in votes if majority_confidence(leading + n, second) > confidence), max_votes
    )


@dataclass(kw_only=True)
class VoteSchedule(TrieParallelSchedule):
    """Independent samples, as many at once as could decide the vote: if all of them agree.

    This is the Beta rule of Adaptive-Consistency (Aggarwal et al. 2023), asked whenever a sample
    finishes. A vote is decided only when all running samples have finished: they do not run in
    vain, and the vote does not prefer short ones. In rounds (with a seed), the rule is asked when
    all have finished, so that the tree does not depend on their order.

    Attributes:
        classes: of the sequences of finished leaves; None does not vote.
        confidence: `majority_confidence` above which the vote is decided.
    """

    classes: Callable[[Items[Leaf]], Items[Hashable | None]]
    confidence: float

    def replay(self, tree: TokenTree) -> Decision:
        """Continue all samples as far as the tree is known, and start those that are missing."""
        if not self.leaves:
            self.leaves.append(Leaf(0, tree.segments[0]))
        have_finished = True
        while have_finished and not (self.in_rounds and self._alive()):
            num_finished = len(self._finished())
            self.open_round(tree, max(self._target() - len(self.leaves), len(self.waiting)))
            have_finished = len(self._finished()) > num_finished
        segments = tuple(leaf.segment for leaf in self._alive())
        awaited = frozenset(sample.segment for sample in self.waiting)
        return Decision(tuple(self.leaves), (), segments, awaited=awaited)

    def _finished(self) -> list[Leaf]:
        return [leaf for leaf in self.leaves if leaf.segment.finish_reason is not None]

    def _target(self) -> int:
        """Number of samples, finished or not, that are to have been started."""
        finished, most = self._finished(), self.config.max_sequences
        leading, second = leading_votes(self.classes(finished))
        return min(most, len(finished) + num_missing_votes(leading, second, self.confidence, most))
