"""A prompt's stored tree as walks go through it: brought up to date, never built anew.

Of a stored step only what every walk needs is kept, 32 bytes: the token that its segment took, how
likely that is, and what of the rest was not drawn yet. The distribution of a step is made when a
walk leaves there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eager_sgl.config import SamplingConfig
from eager_sgl.steps import Steps, ranks_of
from eager_sgl.tree import Segment, TokenTree

__all__ = ["KnownSegment", "Trie", "nucleus", "nucleus_exceeds_top_k", "num_inexact_steps"]

Floats = NDArray[np.float64]


def nucleus(
    logprobs: NDArray[np.floating], top_k_mass: NDArray[np.floating], sampling: SamplingConfig
) -> Floats:
    """What SGLang 0.5.23 samples from: tempered, cut by top-p, renormalised.

    Args:
        logprobs: [n, K] of the model's own distribution over the K, most likely token first.
        top_k_mass: [n], what the K have together of the tempered distribution.

    Returns:
        float64 [n, K], summing to 1 over the last axis.
    """
    if sampling.temperature == 0:
        return np.eye(1, logprobs.shape[1]).repeat(len(logprobs), axis=0)
    scaled = logprobs.astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    before = np.cumsum(weights, axis=1) - weights
    weights[before * top_k_mass[:, None] > sampling.top_p] = 0.0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def nucleus_exceeds_top_k(steps: Steps, sampling: SamplingConfig) -> NDArray[np.bool_]:
    """At which steps [n] top-p leaves, or may leave, more tokens than the K that are known."""
    return (steps.top_k_mass < 1) & (steps.top_k_mass <= sampling.top_p)


def num_inexact_steps(tree: TokenTree, sampling: SamplingConfig) -> int:
    """Stored steps of a tree at which a walk does not draw from what the server samples from."""
    stored = (segment.steps for segment in tree.segments)
    return sum(
        int(nucleus_exceeds_top_k(steps, sampling).sum()) for steps in stored if steps is not None
    )


@dataclass(eq=False)
class KnownSegment:
    """A segment's n stored steps as a walk needs them.

    Attributes:
        parent: the segment it leaves; None for the first of a tree.
        place: the step of `parent` where it does, and the rank of its first token there.
        num_tokens: of the segment, when it was read.
        positions: int32 [n].
        taken_ranks: [n], of the segment's own token.
        stay: float64 [n], chance of the own token.
        leave: float64 [n], chance of the others times what below them was not drawn yet.
        unseen: float64 [n + 1], share of all that can come from a step on that was not drawn yet;
            what is still running counts as drawn.
        children: the segments that leave, by step and rank.
    """

    segment: Segment
    parent: KnownSegment | None = None
    place: tuple[int, int] = (0, 0)
    num_tokens: int = -1
    positions: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    taken_ranks: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    stay: Floats = field(default_factory=lambda: np.zeros(0))
    leave: Floats = field(default_factory=lambda: np.zeros(0))
    unseen: Floats = field(default_factory=lambda: np.zeros(1))
    children: dict[int, dict[int, KnownSegment]] = field(default_factory=lambda: defaultdict(dict))

    def child(self, step: int, rank: int) -> KnownSegment | None:
        """The segment that leaves at a step with a token; None if there is none."""
        return self.children[step].get(rank) if step in self.children else None


class Trie:
    """The segments of a tree, for walks that draw as a server does.

    Args:
        tree: may go on growing; `update` takes in what has come.
        sampling: the distribution that is drawn from.
    """

    def __init__(self, tree: TokenTree, sampling: SamplingConfig) -> None:
        self._tree = tree
        self._sampling = sampling
        self._known: list[KnownSegment] = []
        self._growing: list[KnownSegment] = []
        self.update()

    def __getitem__(self, segment: Segment) -> KnownSegment:
        return self._known[segment.index]

    @property
    def root(self) -> KnownSegment:
        """The first segment."""
        return self._known[0]

    def update(self) -> None:
        """Take in the segments that were opened, and what came of those that were running."""
        for known in self._growing:
            self._read(known)
        for segment in self._tree.segments[len(self._known) :]:
            self._add(segment)
        self._growing = [known for known in self._growing if known.segment.finish_reason is None]

    def others(self, known: KnownSegment, step: int) -> Floats:
        """Chance [K] of each token of a step but the segment's own."""
        steps, rows = known.segment.steps, slice(step, step + 1)
        assert steps is not None, f"segment {known.segment.index} has no step {step}"
        weights: Floats = nucleus(steps.logprobs[rows], steps.top_k_mass[rows], self._sampling)[0]
        weights[known.taken_ranks[step]] = 0.0
        return weights

    def unseen_others(self, known: KnownSegment, step: int) -> Floats:
        """The same, times what below each of them was not drawn yet."""
        weights = self.others(known, step)
        for rank, child in known.children[step].items():
            weights[rank] *= child.unseen[0]
        return weights

    def _add(self, segment: Segment) -> None:
        known = KnownSegment(segment)
        self._known.append(known)
        self._growing.append(known)
        if segment.parent is not None:
            known.parent = parent = self[segment.parent]
            steps = segment.parent.steps
            assert steps is not None, f"segment {segment.index} leaves where nothing is stored"
            step = int(np.searchsorted(steps.positions, segment.start))
            first = np.array(segment.token_ids[:1], dtype=np.int32)
            known.place = step, int(ranks_of(steps.token_ids[[step]], first)[0])
            parent.children[step][known.place[1]] = known
        self._read(known)

    def _read(self, known: KnownSegment) -> None:
        segment = known.segment
        if known.num_tokens == len(segment.token_ids):
            return
        known.num_tokens = len(segment.token_ids)
        if (steps := segment.steps) is not None:
            own = np.array(segment.token_ids, dtype=np.int32)[steps.positions - segment.start]
            known.positions, known.taken_ranks = steps.positions, ranks_of(steps.token_ids, own)
            weights = nucleus(steps.logprobs, steps.top_k_mass, self._sampling)
            rows = np.arange(len(own))
            known.stay = weights[rows, known.taken_ranks]
            weights[rows, known.taken_ranks] = 0.0
            known.leave = weights.sum(axis=1)
            known.unseen = np.zeros(len(own) + 1)
            for step in known.children:
                known.leave[step] = self.unseen_others(known, step).sum()
        self._settle(known, len(known.positions) - 1)

    def _settle(self, known: KnownSegment, step: int) -> None:
        """Add up what was not drawn yet, from a changed step back to the root."""
        while True:
            value, values = float(known.unseen[step + 1]), []
            chances = (known.leave[step::-1], known.stay[step::-1]) if step >= 0 else ((), ())
            for leave, stay in zip(*map(list, chances), strict=True):
                value = leave + stay * value
                values.append(value)
            known.unseen[: step + 1] = values[::-1]
            if known.parent is None:
                return
            known, step = known.parent, known.place[0]
            known.leave[step] = self.unseen_others(known, step).sum()
