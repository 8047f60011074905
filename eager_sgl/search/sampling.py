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

from eager_sgl.schedule import Leaf
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
        if self._trie is None:
            self._trie = Trie(tree, self.config.sampling)
        self._trie.update()
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


@dataclass(kw_only=True)
class TrieParallelSchedule(_SamplingSchedule):
    """Independent samples; only tokens that are not in the tree are generated.

    A sample that reaches the end of an unfinished segment waits for it.

    Attributes:
        waiting: the unfinished segment of each waiting sample.
    """

    waiting: list[Segment] = field(default_factory=list)

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Continue the waiting samples, and start others up to `max_new` in all."""
        while len(self.waiting) < max_new:
            self.waiting.append(tree.segments[0])
        starts, self.waiting = self.waiting, []
        for segment in starts:
            self._sample(tree, self.trie(tree), segment)
        return len(starts) - len(self.waiting)

    def _sample(self, tree: TokenTree, trie: Trie, segment: Segment) -> None:
        """Draw from the start of a segment to an untried token or the end of a stored path."""
        node, step = trie[segment], 0
        while (exits := np.cumprod(node.p_stay[step:]) <= self.rng.random()).any():
            step += int(np.argmax(exits))
            rank = _draw(trie.alternatives(node, step), self.rng)
            child = node.child(step, rank)
            if child is None:
                self.open_exit(tree, node, step, rank)
                return
            node, step = child, 0
        if node.segment.finish_reason is None:
            self.waiting.append(node.segment)
        else:
            self.leaves.append(Leaf(len(self.leaves), node.segment))
