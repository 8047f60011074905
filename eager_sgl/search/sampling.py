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

Both are exact as long as the nucleus lies within the K known tokens of a step;
`PromptResult.inexact_steps` counts the steps where it may not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.rounds import SearchSchedule
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
class Sample:
    """A sample on its way through the tree.

    Its draws depend on its generator and its path alone, not on when tokens arrive.

    Attributes:
        index: in the order in which samples start.
        rng: of its draws.
        segment: on which it is.
        uniform: decides at which step it leaves the segment.
        leaf: its sequence, once the rest of it is drawn by the server, or is stored; None before.
    """

    index: int
    rng: random.Random
    segment: Segment
    uniform: float
    leaf: Leaf | None = None

    def enter(self, segment: Segment) -> None:
        """Continue on a segment, from its start."""
        self.segment, self.uniform = segment, self.rng.random()


@dataclass(kw_only=True)
class TrieParallelSchedule(_SamplingSchedule):
    """Independent samples; only tokens that are not in the tree are generated.

    A sample that reaches the last known token of an unfinished segment waits for more. All
    samples start at once. Where something is asked before every round they start in rounds: a
    round continues the waiting samples, and starts others.

    Samples with the same path so far reach its end in the same replay. So the lowest of them opens
    the next segment whenever answers arrive, and the sequences depend on the draws alone, in the
    order of the samples.

    Attributes:
        samples: all that have started.
    """

    samples: list[Sample] = field(default_factory=list)

    def replay(self, tree: TokenTree) -> Decision:
        """Let all samples go as far as the tree is known."""
        if self.stop or self.bid or self.config.max_tokens is not None:
            return super().replay(tree)
        self.sample(tree, self.config.max_sequences)
        return self.decision()

    def sample(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them, and let all go as far as the tree is known."""
        self.start(tree, number)
        for sample in self.waiting:
            self._advance(tree, sample)
            if sample.leaf is not None:
                sample.leaf.index = sample.index

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Continue the waiting samples, and start others up to `max_new` in all."""
        num_leaves = len(self.leaves)
        self.start(tree, num_leaves + max_new)
        for sample in self.waiting:
            self._advance(tree, sample)
        return len(self.leaves) - num_leaves

    def start(self, tree: TokenTree, number: int) -> None:
        """Start samples up to a number of them."""
        while len(self.samples) < number:
            rng, root = random.Random(self.rng.getrandbits(128)), tree.segments[0]
            sample = Sample(len(self.samples), rng, root, rng.random())
            self.samples.append(sample)
            if sample.index == 0:  # the server draws all of it
                self.leaves = self.leaves or [Leaf(0, root)]
                sample.leaf = self.leaves[0]

    @property
    def waiting(self) -> list[Sample]:
        """Samples that wait for tokens of an unfinished segment."""
        return [sample for sample in self.samples if sample.leaf is None]

    def decision(self) -> Decision:
        """To continue all samples that have started; sequences in the order of their samples."""
        leaves = tuple(sample.leaf for sample in self.samples if sample.leaf is not None)
        running = tuple(leaf.segment for leaf in leaves if leaf.segment.finish_reason is None)
        awaited = frozenset(sample.segment for sample in self.waiting)
        return Decision(leaves, (), running, awaited=awaited)

    def _advance(self, tree: TokenTree, sample: Sample) -> None:
        """Draw up to an untried token, the end of a stored path, or the end of what is known."""
        trie = self._new_trie(tree)
        while True:
            trie.add_new()
            node = trie[sample.segment]
            trie.read(node)
            exits = np.cumprod(node.p_stay) <= sample.uniform
            if not exits.any():
                break
            step = int(np.argmax(exits))
            rank = _draw(trie.alternatives(node, step), sample.rng)
            child = node.child(step, rank)
            if child is None:
                sample.leaf = self.open_exit(tree, node, step, rank)
                return
            sample.enter(child.segment)
        if sample.segment.finish_reason is not None:
            sample.leaf = Leaf(len(self.leaves), sample.segment)
            self.leaves.append(sample.leaf)
