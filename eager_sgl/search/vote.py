"""Voting: samples start while the vote on their answers is open; the rest is left after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace

from eager_sgl.core import BranchPoint
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.probing import Probes
from eager_sgl.search.sampling import TrieParallelSchedule, TrieSample
from eager_sgl.tree import Segment, TokenTree
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import AHEAD, num_missing, num_to_start
from eager_sgl.voting.outweighing import WEIGHTLESS, PathLogprobs, find_outweighed
from eager_sgl.voting.weighing import weights_of

__all__ = ["VoteSchedule"]


@dataclass(kw_only=True)
class VoteSchedule(TrieParallelSchedule):
    """As many samples run as can be expected to decide the vote (`num_to_start`).

    Those that are left when the vote is decided are no part of it. Without `ahead` there are none,
    but some under a rule of weights, which are unknown until a sample has ended. Votes count in the
    order in which samples start: those after a long sample wait for it. The rule is asked after
    every vote, also where several can be counted at once, so that the vote ends at the same sample
    whenever answers arrive, and however many run.

    With cutting, the first samples run to their ends, and no other starts before the floor is
    known. A sample that is cut counts as one, and does not vote: another takes its place at once.
    Whether it is cut depends on its tokens alone, as if all samples were drawn apart: a sample that
    passes a stored path below the floor is cut there, and a request knows the confidences before
    it. Votes are those of independent samples that reach the floor.

    A sample that is outweighed ends, as `eager_sgl.voting.outweighing` has it. So do all samples
    whose paths continue from there: a segment that ends early is below the log-probability at which
    each of them is outweighed.

    A bid is made where all samples so far have ended; the first ones need none.

    Attributes:
        rule: decides the vote; with `weigh` a `WeightedRule`.
        answers: finished sequences -> their answers, None without any; called once per vote.
        weigh: finished sequences -> the weights of their votes; None for a vote of counts.
        shares: whether samples share their prefixes, through the tree.
        ahead: how far samples run ahead of the decision; see `num_to_start`.
        cutting: when samples are cut; None for never.
        outweighed: share of the strongest vote below which a sample ends; 0 for never.
        probes: end samples whose answers are stable; None for no probes.
        on_count: called with the finished sequences after every vote that is counted; None for no
            such call.
    """

    rule: Callable[..., bool]
    answers: Callable[[Items[Leaf]], Items[Hashable | None]]
    weigh: Callable[[Items[Leaf]], Items[float]] | None = None
    shares: bool = True
    ahead: float = AHEAD
    cutting: Cutting | None = None
    outweighed: float = 0.0
    probes: Probes | None = None
    on_count: Callable[[Items[Leaf]], None] | None = None
    _num_votes: int = field(default=0, init=False)
    _num_missing: int | None = field(default=None, init=False)
    _num_to_start: int = field(default=0, init=False)
    _floor: float | None = field(default=None, init=False)
    _known_cuts: dict[Leaf, bool] = field(default_factory=dict, init=False)
    _paths: PathLogprobs = field(default_factory=PathLogprobs, init=False)
    _lowest: float = field(default=-math.inf, init=False)
    _is_out: list[bool] = field(default_factory=list, init=False)

    def replay(self, tree: TokenTree) -> Decision:
        """Start the samples that may decide the vote; none once it is decided."""
        if self._num_missing is None:
            self._count(())
        self.sample(tree, len(self.samples))
        while self._num_missing:
            self._end_outweighed(tree)
            ended = self._ended()  # stored paths end without a token
            if self._num_votes < len(ended):
                self._num_votes += 1
                self._count(ended[: self._num_votes])
            elif not self._start_missing(tree):
                return replace(self.decision(), bid=self._waiting)
        return Decision(tuple(self._ended()[: self._num_votes]), (), ())

    def sample(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them, and let all go as far as the tree is known."""
        super().sample(tree, number)
        if self.probes is not None:
            self.probes.end(self.samples)

    def decision(self) -> Decision:
        """To continue all samples that have started, and their probes."""
        decision = super().decision()
        if not self.shares:
            decision = replace(decision, may_be_awaited=False)
        if self.outweighed:
            decision = replace(decision, awaited=decision.awaited.union(decision.free))
        return decision if self.probes is None else self.probes.add_to(decision)

    def _count(self, ended: Items[Leaf]) -> None:
        """Ask the rule on the votes of the first samples."""
        if self.cutting is not None and len(ended) == self.cutting.num_warmups:
            paths = [leaf.segment.path_confidences() for leaf in ended]
            self._floor = self.cutting.floor([self.cutting.lowest(path) for path in paths])
        answers = self.answers(ended) if ended else ()
        votes = [None if self._is_cut(e) else a for e, a in zip(ended, answers, strict=True)]
        limit = self.config.max_sequences - self._num_votes
        weights = None
        if self.weigh is not None:
            self._is_out = is_out = self._are_outweighed(ended, votes)
            cast = [None if out else vote for vote, out in zip(votes, is_out, strict=True)]
            weights = weights_of(ended, cast, self.weigh)
            votes = [WEIGHTLESS if out else vote for vote, out in zip(votes, is_out, strict=True)]
        self._num_missing = missing = num_missing(self.rule, votes, limit, weights)
        self._num_to_start = num_to_start(self.rule, votes, missing, self.ahead, weights)
        if self.on_count is not None and ended:
            self.on_count(ended)

    def _are_outweighed(self, ended: Items[Leaf], votes: Items[Hashable | None]) -> list[bool]:
        """Whether the first samples are outweighed; notes from where on others are."""
        if not self.outweighed:
            return [False] * len(ended)
        logprobs = [self._paths.of(leaf.segment) for leaf in ended]
        is_out, self._lowest = find_outweighed(logprobs, votes, self.outweighed)
        return is_out

    def _end_outweighed(self, tree: TokenTree) -> None:
        """End the segments of running samples that are outweighed by the votes so far."""
        while ending := self._newly_outweighed():
            for segment in ending:
                segment.finish_reason = "cut"
            self.sample(tree, len(self.samples))  # other samples may wait for their tokens

    def _newly_outweighed(self) -> list[Segment]:
        later = [sample.leaf for sample in self.samples[self._num_votes :]]
        running = [leaf.segment for leaf in later if leaf and leaf.segment.finish_reason is None]
        return [segment for segment in running if self._paths.of(segment) < self._lowest]

    # Starting

    def _start_missing(self, tree: TokenTree) -> bool:
        """Start the samples that are wanted after the votes so far; whether there are any."""
        number = self._num_wanted(tree)
        if number <= len(self.samples) or not self._may_start(tree, number):
            return False
        self.sample(tree, number)
        return True

    def _num_wanted(self, tree: TokenTree) -> int:
        """At most M samples, or those that have started once `max_tokens` are generated."""
        max_tokens = self.config.max_tokens
        if max_tokens is not None and tree.spent.generated >= max_tokens:
            return len(self.samples)
        limit = self.config.max_sequences
        if self.cutting is not None and self._floor is None:
            limit = min(limit, self.cutting.num_warmups)
        later = (sample.leaf for sample in self.samples[self._num_votes :])
        num_cut = sum(leaf is not None and self._is_cut(leaf) for leaf in later)
        return min(self._num_votes + self._num_to_start + num_cut, limit)

    def _may_start(self, tree: TokenTree, number: int) -> bool:
        """Whether a bid for more samples is granted, or none is needed; a refusal ends the vote."""
        if self.bid is None or not self.samples:
            return True
        if self._num_votes < len(self.samples):
            return False
        if self._made is None:
            cost = tree.spent.generated / len(self.samples) * (number - len(self.samples))
            ended = self._ended()
            outs = self._is_out or [False] * len(ended)
            voters = [e for e, out in zip(ended, outs, strict=True) if not (out or self._is_cut(e))]
            self._made = self.bid(tree, voters or ended, cost)
        is_granted = self._is_granted()
        if not is_granted and self._waiting is None:
            self._num_missing = 0
        return is_granted

    def start(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them, each at the prompt if they share nothing."""
        if not self.samples:
            self._set_floor(tree.segments[0])
        if self.shares:
            super().start(tree, number)
        for index in range(len(self.samples), number):
            segment = tree.open_root() if index else tree.segments[0]
            self._set_floor(segment)
            self.samples.append(TrieSample(index, self.rng, segment, leaf=Leaf(index, segment)))

    def add(self, parent: Segment, segment: Segment, point: BranchPoint) -> Leaf:
        """Add the sequence of a segment that left `parent`, which may be below the floor there."""
        self._set_floor(segment)
        return super().add(parent, segment, point)

    def _set_floor(self, segment: Segment) -> None:
        if self.cutting is None or self._floor is None or segment.finish_reason is not None:
            return
        segment.floor = self._floor
        if self.cutting.is_cut(segment.path_confidences(), self._floor):
            segment.finish_reason = "cut"

    def _is_cut(self, leaf: Leaf) -> bool:
        """Whether the sample of a leaf has been cut, or has passed a path below the floor."""
        if self.cutting is None or self._floor is None or leaf.segment.finish_reason is None:
            return False
        if leaf not in self._known_cuts:
            confidences = leaf.segment.path_confidences()
            is_below = self.cutting.is_cut(confidences, self._floor)
            self._known_cuts[leaf] = is_below or leaf.segment.finish_reason == "cut"
        return self._known_cuts[leaf]

    def _ended(self) -> list[Leaf]:
        """The sequences of the first samples, up to the first that runs or waits."""
        ended = []
        for sample in self.samples:
            if sample.leaf is None or sample.leaf.segment.finish_reason is None:
                break
            ended.append(sample.leaf)
        return ended
