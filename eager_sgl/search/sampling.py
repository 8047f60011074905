"""Sampling through the stored tree: stored tokens are passed, only new ones are generated.

A sample starts at the prompt and draws a token at every stored step from the distribution that the
server samples from: the model's, at temperature τ, cut by top-p. Where the drawn token is in the
tree, it continues there; where it is not, it opens the token, and the server draws the rest. As
long as a sample stays on a segment it takes one draw: of the step at which it leaves, by the
probability of reaching it.

*Trie-cached sampling* makes independent samples of exactly the distribution of Full Parallel. A
sample may end on a path that was drawn before, and then costs nothing. *Sampling without
replacement* never does: every token weighs as much as the share of its probability that has not
been drawn yet (the incremental form of Gumbel top-k: Shi et al. 2020, UniqueRandomizer; Kool et al.
2019).

Trie-cached sampling is exact for any K, since the server draws what the tree does not know
(`eager_sgl.search.exits`). Sampling without replacement is exact as long as the nucleus lies within
the K known tokens of a step; `PromptResult.inexact_steps` counts the steps where it may not.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import numpy as np

from eager_sgl.core import BranchPoint
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.exits import Exits
from eager_sgl.search.rounds import SearchSchedule, branch_point
from eager_sgl.search.trie import Trie, TrieSegment
from eager_sgl.signals import Floats
from eager_sgl.tree import Segment, TokenTree

__all__ = ["TrieParallelSchedule", "WithoutReplacementSchedule"]

EXHAUSTED = 1e-9
"""Unseen mass below which sampling without replacement ends."""


@dataclass(kw_only=True)
class _SamplingSchedule(SearchSchedule):
    """Samples through one tree.

    Attributes:
        rng: of all draws.
    """

    rng: random.Random
    _trie: Trie | None = None

    def trie(self, tree: TokenTree) -> Trie:
        """The up-to-date trie of the tree."""
        trie = self._new_trie(tree)
        trie.update()
        return trie

    def _new_trie(self, tree: TokenTree) -> Trie:
        if self._trie is None:
            self._trie = Trie(tree, self.config.sampling)
        return self._trie

    def open_exit(self, tree: TokenTree, node: TrieSegment, step: int, rank: int) -> Leaf:
        """Add the sequence that leaves a segment at a stored step."""
        return self.open(tree, node.segment, int(node.positions[step]), rank)


@dataclass(kw_only=True)
class WithoutReplacementSchedule(_SamplingSchedule):
    """Exact sampling without replacement; paths drawn at the same time exclude one another.

    With `width` above 1, an unfinished path counts as drawn with every continuation of its opened
    token, so that the order is no longer exactly that of single draws.
    """

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Open up to `max_new` new paths."""
        for number in range(max_new):
            trie = self.trie(tree)
            if trie.root.unseen_mass[0] < EXHAUSTED:
                return number
            self.open_exit(tree, *_draw_unseen(trie, self.rng))
        return max_new


def _draw_unseen(trie: Trie, rng: random.Random) -> tuple[TrieSegment, int, int]:
    """A segment, the step at which to leave it, and the rank of the untried token there."""
    node, step = trie.root, 0
    while True:
        reach = np.cumprod(node.p_stay[step:]) * node.unseen_mass[step + 1 :]
        exits = reach / node.unseen_mass[step] <= rng.random()
        # Rounding must not choose a step where nothing is left to draw.
        step += int(np.argmax(exits & (node.p_leave[step:] > 0)))
        rank = _draw(trie.unseen_alternatives(node, step), rng)
        child = node.child(step, rank)
        if child is None:
            return node, step, rank
        node, step = child, 0


def _draw(weights: Floats, rng: random.Random) -> int:
    return rng.choices(range(len(weights)), weights.tolist())[0]


@dataclass(eq=False)
class TrieSample:
    """A sample on its way through the tree.

    Its draws depend on its generator and its path alone, not on when tokens arrive.

    Attributes:
        index: in the order in which samples start.
        rng: of its draws.
        segment: on which it is.
        position: from which on it may leave the segment.
        uniform: decides at which step it leaves the segment.
        drawn: holds the token that the server draws for its next step; None without.
        leaf: its sequence, once the rest of it is drawn by the server, or is stored; None before.
    """

    index: int
    rng: random.Random
    segment: Segment
    position: int = 0
    uniform: float = field(init=False)
    drawn: Segment | None = None
    leaf: Leaf | None = None

    def __post_init__(self) -> None:
        self.uniform = self.rng.random()

    def enter(self, segment: Segment, position: int) -> None:
        """Continue on a segment, from a position on."""
        self.segment, self.position, self.drawn = segment, position, None
        self.uniform = self.rng.random()

    def end(self, segment: Segment) -> None:
        """End with another segment, which leaves its path."""
        parent, branch = (None, None) if self.leaf is None else (self.leaf.parent, self.leaf.branch)
        self.leaf, self.drawn = Leaf(self.index, segment, parent, branch), None

    def exit_position(self, stays: Floats) -> int | None:
        """Where it leaves its segment; None if that is not known yet, or nowhere.

        Args:
            stays: [n], probability of the token at each step of the segment.
        """
        exits = np.cumprod(stays[self.position - self.segment.start :]) <= self.uniform
        return self.position + int(np.argmax(exits)) if exits.any() else None

    def may_come_to(self, segment: Segment, position: int) -> bool:
        """Whether a token is being drawn for it at a position of a segment, or before.

        A draw may be a token of the tree: of a segment that left there, or of the segment itself.
        """
        return self.drawn is not None and self.segment is segment and self.position <= position


@dataclass(kw_only=True)
class TrieParallelSchedule(_SamplingSchedule):
    """Independent samples; only tokens that are not in the tree are generated.

    A sample that reaches the last known token of an unfinished segment waits for more, and so does
    a sample whose next token the server draws (`eager_sgl.search.exits`). All samples start at
    once. Where something is asked before every round they start in rounds: a round continues the
    waiting samples, and starts others.

    Samples with the same path so far reach its end in the same replay, since drawn tokens of a
    segment are taken in the order of the samples. So the first of them opens the next segment
    whenever answers arrive: the sequences depend on the draws alone, in the order of the samples.

    Attributes:
        samples: all that have started.
    """

    samples: list[TrieSample] = field(default_factory=list)
    _known_exits: Exits | None = None

    @property
    def waiting(self) -> list[TrieSample]:
        """Samples that wait for tokens of their segments, or for a token that is being drawn."""
        return [sample for sample in self.samples if sample.leaf is None]

    @property
    def drawing(self) -> list[TrieSample]:
        """Samples whose next token is being drawn, or has been."""
        return [sample for sample in self.samples if sample.drawn is not None]

    def replay(self, tree: TokenTree) -> Decision:
        """Let all samples go as far as the tree is known."""
        if not self.is_asked_before_rounds:
            self.sample(tree, self.config.max_sequences)
            return self.decision()
        if all(drawn.token_ids for drawn in self._segments_drawn()):
            for sample in self.drawing:
                self._place(tree, sample)
        decision = super().replay(tree)
        return replace(decision, drawn=self._segments_drawn())

    def _may_open(self, tree: TokenTree) -> bool:
        return not self.drawing and super()._may_open(tree)

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Continue the waiting samples, and start others up to `max_new` in all."""
        num_before = len(self.leaves)
        self.start(tree, num_before + max_new)
        for sample in self.waiting:
            self._advance(tree, sample)
        return len(self.leaves) - num_before + len(self.drawing)

    def sample(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them, and let all go as far as the tree is known."""
        self.start(tree, number)
        for sample in self.waiting:
            if sample.drawn is not None and sample.drawn.token_ids and not self._is_blocked(sample):
                self._place(tree, sample)
            if sample.leaf is None and sample.drawn is None:
                self._advance(tree, sample)
            if sample.leaf is not None:
                sample.leaf.index = sample.index

    def start(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them."""
        while len(self.samples) < number:
            rng, root = random.Random(self.rng.getrandbits(128)), tree.segments[0]
            sample = TrieSample(len(self.samples), rng, root)
            self.samples.append(sample)
            if sample.index == 0:  # the server draws all of it
                self.leaves = self.leaves or [Leaf(0, root)]
                sample.leaf = self.leaves[0]

    def decision(self) -> Decision:
        """To continue all samples that have started; sequences in the order of their samples."""
        leaves = tuple(sample.leaf for sample in self.samples if sample.leaf is not None)
        running = tuple(leaf.segment for leaf in leaves if leaf.segment.finish_reason is None)
        awaited = frozenset(s.segment for s in self.waiting if s.drawn is None)
        return Decision(leaves, (), running, awaited=awaited, drawn=self._segments_drawn())

    def _segments_drawn(self) -> tuple[Segment, ...]:
        return tuple(sample.drawn for sample in self.samples if sample.drawn is not None)

    def _is_blocked(self, sample: TrieSample) -> bool:
        """Whether an earlier sample may still come to the token that was drawn for this one."""
        earlier = self.samples[: sample.index]
        return any(other.may_come_to(sample.segment, sample.position) for other in earlier)

    def _advance(self, tree: TokenTree, sample: TrieSample) -> None:
        """Draw up to an untried token, the end of a stored path, or the end of what is known."""
        trie, exits = self._new_trie(tree), self._exits(tree)
        while True:
            trie.add_new()
            node = trie[sample.segment]
            trie.read(node)
            position = sample.exit_position(exits.stays(node))
            if position is None:
                break
            found = exits.at(node, position)
            rank = _draw(found.weights, sample.rng)
            if rank == found.num_known:
                sample.position = position
                sample.drawn = tree.draw(sample.segment, position, found.draw)
                return
            assert found.step is not None, "only stored steps have known tokens"
            child = node.child(found.step, rank)
            if child is None:
                sample.leaf = self.open_exit(tree, node, found.step, rank)
                return
            sample.enter(child.segment, child.segment.start)
        if sample.segment.finish_reason is not None:
            sample.leaf = Leaf(len(self.leaves), sample.segment)
            self.leaves.append(sample.leaf)

    def _exits(self, tree: TokenTree) -> Exits:
        if self._known_exits is None:
            self._known_exits = Exits(
                self._new_trie(tree),
                self.config.sampling,
                has_sampling_logprobs=tree.has_sampling_logprobs,
            )
        return self._known_exits

    def _place(self, tree: TokenTree, sample: TrieSample) -> None:
        """Open a token that was drawn, if it is new; else continue where it is."""
        trie, parent, position = self._new_trie(tree), sample.segment, sample.position
        drawn = sample.drawn
        assert drawn is not None, "nothing was drawn"
        trie.add_new()
        token = drawn.token_ids[0]
        child = trie[parent].by_token.get((position, token))
        if child is not None:
            sample.enter(child.segment, position)
        elif token == parent.token_ids[position - parent.start]:
            sample.enter(parent, position + 1)
        else:
            point = self._point_of(tree, parent, drawn)
            tree.accept(drawn, point)
            sample.drawn, sample.leaf = None, self.add(parent, drawn, point)

    def _point_of(self, tree: TokenTree, parent: Segment, drawn: Segment) -> BranchPoint:
        """The branch point of a token that the server has drawn."""
        assert drawn.draw is not None, "nothing was drawn"
        position, token, index = drawn.start, drawn.token_ids[0], drawn.start - parent.start
        logprob = drawn.draw.unbiased(drawn.logprobs[0])
        raw = self._exits(tree).raw_logprob(parent, position, token, logprob)
        return BranchPoint(
            position=position,
            entropy=parent.entropies[index],
            token_ids=(parent.token_ids[index], token),
            probabilities=(math.exp(parent.raw_logprobs[index]), math.exp(raw)),
            logprobs=(parent.logprobs[index], logprob),
            sampled=parent.token_ids[index],
        )

    def open_exit(self, tree: TokenTree, node: TrieSegment, step: int, rank: int) -> Leaf:
        """Add the sequence that leaves a segment at a stored step.

        Its token has been drawn, here, so that its logprob is that of the server's other tokens.
        """
        parent, position, exits = node.segment, int(node.positions[step]), self._exits(tree)
        point = branch_point(parent, position, rank)
        if exits.are_exact:
            taken = parent.logprobs[position - parent.start]
            point = replace(point, logprobs=(taken, exits.logprob(parent, step, rank)))
        return self.add(parent, tree.branch(parent, point, 1), point)
