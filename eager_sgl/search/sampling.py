"""Sampling through the stored tree: what is there is walked, only what is new is generated.

A walk begins at the prompt and draws a token at every stored step from the distribution that the
server samples from: the model's, at temperature τ, cut by top-p. Where the drawn token is in the
tree, it walks on; where it is not, it opens it, and the server draws the rest. As long as a walk
stays on a segment it is one draw: of the step at which it leaves, by the chance to get so far.

*Trie-cached sampling* makes independent samples of exactly the distribution of Full Parallel. It
can come down a path that is there to its end, and such a sample costs nothing. *Sampling without
replacement* never does: every token weighs as much as of its probability has not been drawn yet
(the incremental form of Gumbel top-k: Shi et al. 2020, UniqueRandomizer; Kool et al. 2019).

Both are exact as long as the nucleus lies within the K tokens that are known of a step, which
`PromptResult.inexact_steps` tells.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from eager_sgl.config import SamplingConfig
from eager_sgl.core import BranchPoint
from eager_sgl.search.best_first import SearchSchedule
from eager_sgl.search.trie import Floats, KnownSegment, Trie
from eager_sgl.tree import Segment, TokenTree

__all__ = ["TrieParallelSchedule", "WithoutReplacementSchedule"]

EXHAUSTED = 1e-9
"""Probability that is left to draw, at which a search without replacement ends."""


@dataclass(kw_only=True)
class _WalkSchedule(SearchSchedule):
    """Walks through one tree.

    Attributes:
        sampling: the distribution that is drawn from.
        rng: of the walks.
    """

    sampling: SamplingConfig
    rng: random.Random
    _trie: Trie | None = None

    def trie(self, tree: TokenTree) -> Trie:
        """All that is known of the tree by now."""
        if self._trie is None:
            self._trie = Trie(tree, self.sampling)
        self._trie.update()
        return self._trie


@dataclass(kw_only=True)
class WithoutReplacementSchedule(_WalkSchedule):
    """Exact sampling without replacement; several at once leave out each other's paths.

    With `width` above 1, a path that is still being drawn counts as drawn with all that may come
    of its opened token, so that the order is no longer exactly that of single draws.
    """

    def open_round(self, tree: TokenTree, room: int) -> int:
        """Open up to `room` new paths."""
        for number in range(room):
            trie = self.trie(tree)
            if trie.root.unseen[0] < EXHAUSTED:
                return number
            self.open(tree, *_draw_unseen(trie, self.rng))
        return room


def _draw_unseen(trie: Trie, rng: random.Random) -> tuple[Segment, BranchPoint]:
    one, step = trie.root, 0
    while True:
        reach = np.cumprod(one.stay[step:]) * one.unseen[step + 1 :] / one.unseen[step]
        # Rounding must not let it leave where nothing is left to draw.
        step += int(np.argmax((reach <= rng.random()) & (one.leave[step:] > 0)))
        rank = _draw(trie.unseen_others(one, step), rng)
        child = one.child(step, rank)
        if child is None:
            return one.segment, _point(one, step, rank)
        one, step = child, 0


def _draw(weights: Floats, rng: random.Random) -> int:
    return rng.choices(range(len(weights)), weights.tolist())[0]


def _point(one: KnownSegment, step: int, rank: int) -> BranchPoint:
    """Where a segment is left for an untried token; probabilities are the model's own."""
    steps = one.segment.steps
    assert steps is not None
    logprobs, taken = steps.logprobs[step].astype(np.float64), one.taken_ranks[step]
    probabilities = np.exp(logprobs)
    token_ids = (int(steps.token_ids[step, taken]), int(steps.token_ids[step, rank]))
    return BranchPoint(
        position=int(one.positions[step]),
        entropy=float(-(probabilities * np.where(probabilities > 0, logprobs, 0.0)).sum()),
        token_ids=token_ids,
        probabilities=(float(probabilities[taken]), float(probabilities[rank])),
        logprobs=(float(logprobs[taken]), float(logprobs[rank])),
        sampled=token_ids[0],
    )


@dataclass(kw_only=True)
class TrieParallelSchedule(_WalkSchedule):
    """Independent samples, of which only what is not in the tree is generated.

    A sample that comes to a segment which is still being drawn waits for it.

    Attributes:
        waiting: the segment that each sample on its way has come to.
    """

    waiting: list[Segment] = field(default_factory=list)

    def open_round(self, tree: TokenTree, room: int) -> int:
        """Let samples walk, as many as there may be at once; how many arrived or opened a path."""
        while len(self.waiting) < room:
            self.waiting.append(tree.segments[0])
        walking, self.waiting = self.waiting, []
        for segment in walking:
            self._walk(tree, self.trie(tree), segment)
        return len(walking) - len(self.waiting)

    def _walk(self, tree: TokenTree, trie: Trie, segment: Segment) -> None:
        one, step = trie[segment], 0
        while (left := np.cumprod(one.stay[step:]) <= self.rng.random()).any():
            step += int(np.argmax(left))
            rank = _draw(trie.others(one, step), self.rng)
            child = one.child(step, rank)
            if child is None:
                self.open(tree, one.segment, _point(one, step, rank))
                return
            one, step = child, 0
        if one.segment.finish_reason is None:
            self.waiting.append(one.segment)
        else:
            self.add(one.segment)
