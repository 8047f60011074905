"""Voting: samples start while the vote on their answers is open; the rest is left after it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.deciding import VoteRule, num_missing
from eager_sgl.search.sampling import Sample, TrieParallelSchedule
from eager_sgl.tree import TokenTree

__all__ = ["VoteSchedule"]


@dataclass(kw_only=True)
class VoteSchedule(TrieParallelSchedule):
    """As many samples run as could decide the vote if all of them gave the leading answer.

    So none is left when the vote is decided, except samples that ran ahead. Votes count in the
    order in which samples start: those after a long sample wait for it.

    Attributes:
        rule: decides the vote.
        answers: finished sequences -> their answers, None without any.
        shares: whether samples share their prefixes, through the tree.
        ahead: number of samples that run beyond those that can decide.
    """

    rule: VoteRule
    answers: Callable[[Items[Leaf]], Items[Hashable | None]]
    shares: bool = True
    ahead: int = 0

    def replay(self, tree: TokenTree) -> Decision:
        """Start the samples that may decide the vote; none once it is decided."""
        num_ended = -1
        while num_ended < len(ended := self._ended()):  # stored paths end without a token
            num_ended = len(ended)
            votes = self.answers(ended) if ended else ()
            missing = num_missing(self.rule, votes, self.config.max_sequences - num_ended)
            if not missing:
                return Decision(tuple(ended), (), ())
            self.sample(tree, self._num_wanted(tree, num_ended + missing + self.ahead))
        return self.decision()

    def start(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them, each at the prompt if they share nothing."""
        if self.shares:
            super().start(tree, number)
        for index in range(len(self.samples), number):
            segment = tree.open_root() if index else tree.segments[0]
            self.samples.append(Sample(index, self.rng, segment, leaf=Leaf(index, segment)))

    def _num_wanted(self, tree: TokenTree, number: int) -> int:
        """At most M samples, or those that have started once `max_tokens` are generated."""
        max_tokens = self.config.max_tokens
        if max_tokens is not None and tree.spent.generated >= max_tokens:
            return len(self.samples)
        return min(number, self.config.max_sequences)

    def _ended(self) -> list[Leaf]:
        """The sequences of the first samples, up to the first that runs or waits."""
        ended = []
        for sample in self.samples:
            if sample.leaf is None or sample.leaf.segment.finish_reason is None:
                break
            ended.append(sample.leaf)
        return ended
