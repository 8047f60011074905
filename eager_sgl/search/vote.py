"""Voting: samples start while the vote on their answers is open; the rest is left after it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.sampling import TrieParallelSchedule, TrieSample
from eager_sgl.tree import TokenTree
from eager_sgl.voting.deciding import VoteRule, num_missing

__all__ = ["VoteSchedule"]


@dataclass(kw_only=True)
class VoteSchedule(TrieParallelSchedule):
    """As many samples run as could decide the vote if all of them gave the leading answer.

    So none is left when the vote is decided, except samples that ran ahead. Votes count in the
    order in which samples start: those after a long sample wait for it. The rule is asked after
    every vote, also where several can be counted at once, so that the vote ends at the same sample
    whenever answers arrive.

    Attributes:
        rule: decides the vote.
        answers: finished sequences -> their answers, None without any; called once per vote.
        shares: whether samples share their prefixes, through the tree.
        ahead: number of samples that run beyond those that can decide.
    """

    rule: VoteRule
    answers: Callable[[Items[Leaf]], Items[Hashable | None]]
    shares: bool = True
    ahead: int = 0
    _num_votes: int = field(default=0, init=False)
    _num_missing: int | None = field(default=None, init=False)

    def replay(self, tree: TokenTree) -> Decision:
        """Start the samples that may decide the vote; none once it is decided."""
        if self._num_missing is None:
            self._count(tree, ())
        self.sample(tree, len(self.samples))
        ended = self._ended()
        while self._num_missing and self._num_votes < len(ended):
            self._num_votes += 1
            self._count(tree, self.answers(ended[: self._num_votes]))
            ended = self._ended()  # stored paths end without a token
        if not self._num_missing:
            return Decision(tuple(ended[: self._num_votes]), (), ())
        return self.decision()

    def _count(self, tree: TokenTree, votes: Items[Hashable | None]) -> None:
        """Ask the rule, and start the samples that may decide after these votes."""
        limit = self.config.max_sequences - self._num_votes
        self._num_missing = num_missing(self.rule, votes, limit)
        if self._num_missing:
            number = self._num_votes + self._num_missing + self.ahead
            self.sample(tree, self._num_wanted(tree, number))

    def start(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them, each at the prompt if they share nothing."""
        if self.shares:
            super().start(tree, number)
        for index in range(len(self.samples), number):
            segment = tree.open_root() if index else tree.segments[0]
            self.samples.append(TrieSample(index, self.rng, segment, leaf=Leaf(index, segment)))

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
