"""A prompt's stored tree as sampling passes through it: updated, never rebuilt.

Of a stored step only what every pass needs is kept, 32 bytes: the rank and the probability of the
token that its segment took, and how much of the rest has not been drawn yet. The distribution of a
step is computed when sampling exits there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eager_sgl.config import SamplingConfig
from eager_sgl.signals import Floats, retemper
from eager_sgl.steps import Steps, ranks_of
from eager_sgl.tree import Segment, TokenTree

__all__ = ["Trie", "TrieSegment", "nucleus", "nucleus_exceeds_top_k", "num_inexact_steps"]


def nucleus(
    logprobs: NDArray[np.floating], top_k_mass: NDArray[np.floating], sampling: SamplingConfig
) -> Floats:
    """The distribution that SGLang 0.5.23 samples from: tempered, cut, renormalised.

    Top-p and top-k are both applied to the tempered distribution.

    Args:
        logprobs: [n, K], natural logarithms at temperature 1, most likely token first.
        top_k_mass: [n], mass of the K tokens in the whole tempered distribution.

    Returns:
        float64 [n, K], summing to 1 over the last axis.
    """
    if sampling.temperature == 0:
        return np.eye(1, logprobs.shape[1]).repeat(len(logprobs), axis=0)
    weights = retemper(logprobs, taken_at=1.0, wanted=sampling.temperature)
    mass_before = (np.cumsum(weights, axis=1) - weights) * top_k_mass[:, None]
    weights[mass_before > sampling.top_p] = 0.0
    if sampling.top_k is not None:
        weights[:, sampling.top_k :] = 0.0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def nucleus_exceeds_top_k(steps: Steps, sampling: SamplingConfig) -> NDArray[np.bool_]:
    """Whether top-p leaves, or may leave, more than the K known tokens of each step [n].

    A top-k of at most K leaves no more.
    """
    if sampling.top_k is not None and sampling.top_k <= steps.token_ids.shape[1]:
        return np.zeros(len(steps.top_k_mass), np.bool_)
    return (steps.top_k_mass < 1) & (steps.top_k_mass <= sampling.top_p)


def num_inexact_steps(tree: TokenTree, sampling: SamplingConfig) -> int:
    """Number of stored steps at which sampling through the tree may differ from the server's."""
    stored = (segment.steps for segment in tree.segments)
    return sum(
        int(nucleus_exceeds_top_k(steps, sampling).sum()) for steps in stored if steps is not None
    )


@dataclass(eq=False)
class TrieSegment:
    """A segment's n stored steps for sampling.

    Attributes:
        parent: the segment that it left to a known token; None for the root, and for a segment
            whose first token the server has drawn.
        exit: index of the step of `parent` at which it left, and the rank of its first token there.
        num_tokens: length of the segment at the last update.
        positions: int32 [n].
        taken_ranks: [n], of the segment's token.
        p_stay: float64 [n], probability of the segment's token.
        p_leave: float64 [n], probability of the other tokens, each times the unseen share below it.
        unseen_mass: float64 [n + 1], share of the probability from each step on that has not been
            drawn yet; an unfinished segment counts as drawn.
        children: the segments that left to a known token, by step and rank.
        by_token: all segments that left, by position and token.
    """

    segment: Segment
    parent: TrieSegment | None = None
    exit: tuple[int, int] = (0, 0)
    num_tokens: int = -1
    positions: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    taken_ranks: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    p_stay: Floats = field(default_factory=lambda: np.zeros(0))
    p_leave: Floats = field(default_factory=lambda: np.zeros(0))
    unseen_mass: Floats = field(default_factory=lambda: np.zeros(1))
    children: dict[int, dict[int, TrieSegment]] = field(default_factory=lambda: defaultdict(dict))
    by_token: dict[tuple[int, int], TrieSegment] = field(default_factory=dict)

    def child(self, step: int, rank: int) -> TrieSegment | None:
        """The segment that left at a step with a token; None if there is none."""
        return self.children[step].get(rank) if step in self.children else None


class Trie:
    """The segments of a tree, for sampling from the server's distribution.

    Args:
        tree: may grow; `update` reads its new tokens.
        sampling: the distribution that is drawn from.
    """

    def __init__(self, tree: TokenTree, sampling: SamplingConfig) -> None:
        self._tree = tree
        self._sampling = sampling
        self._nodes: list[TrieSegment] = []
        self._growing: list[TrieSegment] = []
        self._changed: dict[TrieSegment, None] = {}
        self.update()

    def __getitem__(self, segment: Segment) -> TrieSegment:
        return self._nodes[segment.index]

    @property
    def root(self) -> TrieSegment:
        """The first segment."""
        return self._nodes[0]

    def add_new(self) -> None:
        """Read the new segments."""
        for segment in self._tree.segments[len(self._nodes) :]:
            self._add(segment)

    def update(self) -> None:
        """Read the new tokens of unfinished segments, and the new segments; the unseen masses."""
        for node in self._growing:
            self.read(node)
        self.add_new()
        for node in self._changed:
            self._propagate(node, len(node.positions) - 1)
        self._changed.clear()
        self._growing = [node for node in self._growing if node.segment.finish_reason is None]

    def alternatives(self, node: TrieSegment, step: int) -> Floats:
        """Probability [K] of each token of a step; 0 for that of the segment."""
        steps, rows = node.segment.steps, slice(step, step + 1)
        assert steps is not None, f"segment {node.segment.index} has no step {step}"
        weights: Floats = nucleus(steps.logprobs[rows], steps.top_k_mass[rows], self._sampling)[0]
        weights[node.taken_ranks[step]] = 0.0
        return weights

    def unseen_alternatives(self, node: TrieSegment, step: int) -> Floats:
        """`alternatives`, each times the share below it that has not been drawn yet."""
        weights = self.alternatives(node, step)
        for rank, child in node.children[step].items():
            weights[rank] *= child.unseen_mass[0]
        return weights

    def _add(self, segment: Segment) -> None:
        node = TrieSegment(segment)
        self._nodes.append(node)
        self._growing.append(node)
        if segment.parent is not None:
            self[segment.parent].by_token[segment.start, segment.token_ids[0]] = node
        if segment.parent is not None and segment.draw is None:
            node.parent = parent = self[segment.parent]
            self.read(parent)
            steps = segment.parent.steps
            assert steps is not None, f"segment {segment.index} left a segment without stored steps"
            step = int(np.searchsorted(steps.positions, segment.start))
            first = np.array(segment.token_ids[:1], dtype=np.int32)
            rank = int(ranks_of(steps.token_ids[[step]], first)[0])
            node.exit = step, rank
            parent.children[step][rank] = node
        self.read(node)

    def read(self, node: TrieSegment) -> None:
        """Read the new tokens of a segment; the unseen masses follow in `update`."""
        segment = node.segment
        if node.num_tokens == len(segment.token_ids):
            return
        node.num_tokens = len(segment.token_ids)
        self._changed[node] = None
        if (steps := segment.steps) is not None and len(steps.positions) > len(node.positions):
            self._read_steps(node, steps)

    def _read_steps(self, node: TrieSegment, steps: Steps) -> None:
        """Read the stored steps that are new, at which no segment has left yet."""
        new = steps.since(len(node.positions))
        token_ids = np.array(node.segment.token_ids, dtype=np.int32)
        taken_ranks = ranks_of(new.token_ids, token_ids[new.positions - node.segment.start])
        weights = nucleus(new.logprobs, new.top_k_mass, self._sampling)
        rows = np.arange(len(taken_ranks))
        p_stay = weights[rows, taken_ranks]
        weights[rows, taken_ranks] = 0.0
        node.positions = steps.positions
        node.taken_ranks = np.concatenate([node.taken_ranks, taken_ranks])
        node.p_stay = np.concatenate([node.p_stay, p_stay])
        node.p_leave = np.concatenate([node.p_leave, weights.sum(axis=1)])
        node.unseen_mass = np.zeros(len(steps.positions) + 1)

    def _propagate(self, node: TrieSegment, step: int) -> None:
        """Recompute the unseen mass from a changed step back to the root."""
        while True:
            mass, unseen_mass = float(node.unseen_mass[step + 1]), []
            exits = (node.p_leave[step::-1], node.p_stay[step::-1]) if step >= 0 else ((), ())
            for p_leave, p_stay in zip(*map(list, exits), strict=True):
                mass = p_leave + p_stay * mass
                unseen_mass.append(mass)
            node.unseen_mass[: step + 1] = unseen_mass[::-1]
            if node.parent is None:
                return
            node, step = node.parent, node.exit[0]
            node.p_leave[step] = self.unseen_alternatives(node, step).sum()
