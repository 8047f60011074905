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

    def open_exit(self, tree: TokenTree, node: TrieSegment, step: int, rank: int) -> None:
        """Add the sequence that leaves a segment at a stored step."""
        self.open(tree, node.segment, int(node.positions[step]), rank)


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
class _Sample:
    """A sample on its way through the tree.

    Its draws depend on its generator and its path alone, not on when tokens arrive.

    Attributes:
        rng: of its draws.
        segment: on which it is.
        uniform: decides at which step it leaves the segment.
    """

    rng: random.Random
    segment: Segment
    uniform: float

    def enter(self, segment: Segment) -> None:
        """Continue on a segment, from its start."""
        self.segment, self.uniform = segment, self.rng.random()


@dataclass(kw_only=True)
class TrieParallelSchedule(_SamplingSchedule):
    """Independent samples; only tokens that are not in the tree are generated.

    A sample that reaches the last known token of an unfinished segment waits for more. All
    samples start at once, or in rounds: a round continues the waiting samples, and starts others.

    Attributes:
        in_rounds: whether samples start in rounds, so that the order of sequences does not depend
            on that of answers. They do also where something is asked before every round.
        waiting: the samples that wait.
    """

    in_rounds: bool = False
    waiting: list[_Sample] = field(default_factory=list)

    def replay(self, tree: TokenTree) -> Decision:
        """Let all samples go as far as the tree is known."""
        if self.in_rounds or self.stop or self.bid or self.config.max_tokens is not None:
            return super().replay(tree)
        if not self.leaves:
            self.leaves.append(Leaf(0, tree.segments[0]))
        self.open_round(tree, self.config.max_sequences - len(self.leaves))
        segments = tuple(leaf.segment for leaf in self._alive())
        awaited = frozenset(sample.segment for sample in self.waiting)
        return Decision(tuple(self.leaves), (), segments, awaited=awaited)

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Continue the waiting samples, and start others up to `max_new` in all."""
        while len(self.waiting) < max_new:
            rng = random.Random(self.rng.getrandbits(128))
            self.waiting.append(_Sample(rng, tree.segments[0], rng.random()))
        samples, self.waiting = self.waiting, []
        trie = self._new_trie(tree)
        for sample in samples:
            self._continue(tree, trie, sample)
        return len(samples) - len(self.waiting)

    def _continue(self, tree: TokenTree, trie: Trie, sample: _Sample) -> None:
        """Draw up to an untried token, the end of a stored path, or the end of what is known."""
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
                self.open_exit(tree, node, step, rank)
                return
            sample.enter(child.segment)
        if sample.segment.finish_reason is None:
            self.waiting.append(sample)
        else:
            self.leaves.append(Leaf(len(self.leaves), sample.segment))
