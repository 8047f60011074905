"""The frontier of a prompt's tree: every token that was possible at a stored step, but not taken.

Any of them can be opened at any time for the price of its new tokens, since the radix cache holds
the prefix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import TopLogprobs
from eager_sgl.policy import StepSignals
from eager_sgl.signals import retemper, top_k_entropy, top_k_mass_bound
from eager_sgl.steps import Steps, ranks_of
from eager_sgl.tree import Segment, TokenTree

__all__ = ["NONE", "Candidates", "Reshaping", "StepRecorder", "candidates"]

CERTAIN = 0.995
"""Steps of the study's chains with a more likely token were 92 %."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StepRecorder:
    """A policy that never branches, and stores what could be branched at.

    Attributes:
        stored_below: a step is stored where its most likely token has a smaller probability.
        temperature: of the distribution that `Steps.top_k_mass` belong to; None for that of the
            server's logprobs.
    """

    stored_below: float = CERTAIN
    temperature: float | None = None

    def __call__(self, top: TopLogprobs, sampled: Sequence[int], start: int) -> StepSignals:
        probabilities = retemper(top.logprobs, taken_at=top.temperature, wanted=1.0)
        with np.errstate(divide="ignore"):
            logprobs = np.log(probabilities).astype(np.float32)
        taken = ranks_of(top.token_ids, np.asarray(sampled, dtype=np.int32))
        wanted = top.temperature if self.temperature is None else self.temperature
        top_k_mass = top_k_mass_bound(top.logprobs, taken_at=top.temperature, wanted=wanted)
        chosen = np.flatnonzero(probabilities[:, 0] * top_k_mass < self.stored_below)
        return StepSignals(
            entropies=top_k_entropy(probabilities).tolist(),
            branch_points=[],
            steps=Steps(
                positions=(chosen + start).astype(np.int32),
                token_ids=top.token_ids[chosen],
                logprobs=logprobs[chosen],
                top_k_mass=top_k_mass[chosen].astype(np.float32),
            ),
            raw_logprobs=logprobs[np.arange(len(taken)), taken].tolist(),
        )


@dataclass(frozen=True)
class Reshaping:
    """How a step's distribution is changed before priorities look at it.

    Attributes:
        temperature: weights are p^(1/temperature).
        min_p: tokens less likely than this share of the most likely one count as impossible.
    """

    temperature: float = 1.0
    min_p: float = 0.0

    def __call__(self, logprobs: NDArray[np.float32]) -> Floats:
        """Normalised logprobs [n, K]; -inf where impossible."""
        scaled = logprobs.astype(np.float64) / self.temperature
        if self.min_p:
            floor = logprobs[:, :1] + np.log(self.min_p)
            scaled = np.where(logprobs >= floor, scaled, -np.inf)
        most = scaled.max(axis=1, keepdims=True)
        total = np.log(np.exp(scaled - most).sum(axis=1, keepdims=True)) + most
        normalised: Floats = scaled - total
        return normalised


NONE = Reshaping()


@dataclass(frozen=True)
class Candidates:
    """Untried tokens, each with what a priority may go by; all arrays are [n].

    Attributes:
        segments: index of the segment that the step lies on.
        positions: of the step.
        ranks: the token's place among the K, 0 the most likely.
        first_untried: whether no more likely token of its step is untried.
        token_ids: the untried token.
        taken_ids: the token that the segment has there.
        logprobs: of the untried token at its step, flattened.
        probabilities: of the untried token, the model's own.
        taken_probabilities: of the other one, likewise.
        entropies: of the step, in nats, over the K.
        varentropies: variance of −ln p at the step, in nats².
        uniform_kl: KL(uniform ‖ p) over the K at the step, in nats: self-certainty.
        joint_logprobs: of the prefix and the untried token, flattened as `logprobs` are; steps that
            are not stored count as certain.
        remaining: expected tokens from here to the end, from the lengths of finished sequences.
        tree: that they are of, for what one cannot tell from a candidate alone.
    """

    segments: NDArray[np.int32]
    positions: NDArray[np.int32]
    ranks: NDArray[np.int32]
    first_untried: NDArray[np.bool_]
    token_ids: NDArray[np.int32]
    taken_ids: NDArray[np.int32]
    logprobs: Floats
    probabilities: Floats
    taken_probabilities: Floats
    entropies: Floats
    varentropies: Floats
    uniform_kl: Floats
    joint_logprobs: Floats
    remaining: Floats
    tree: TokenTree

    def __len__(self) -> int:
        return len(self.positions)


def candidates(tree: TokenTree, reshaping: Reshaping = NONE) -> Candidates:
    """All of a tree, segment by segment, by rising position and falling probability.

    Args:
        reshaping: of the distributions behind `logprobs` and `joint_logprobs`.
    """
    children: dict[int, list[Segment]] = defaultdict(list)
    for segment in tree.segments:
        if segment.parent is not None:
            children[segment.parent.index].append(segment)
    joints: dict[int, float] = {}
    parts = []
    for segment in tree.segments:
        if segment.steps is None:
            continue
        view = _View(segment, segment.steps, reshaping, joints.get(segment.index, 0.0))
        parts.append(view.untried(children[segment.index]))
        joints |= {child.index: view.joint(child) for child in children[segment.index]}
    return _joined(parts, tree)


class _View:
    """A segment's stored steps, and the flattened joint log-probability of what precedes each."""

    def __init__(self, segment: Segment, steps: Steps, reshaping: Reshaping, joint: float) -> None:
        self._segment = segment
        self._steps = steps
        self._logprobs = reshaping(steps.logprobs)
        own = np.array(segment.token_ids, dtype=np.int32)[steps.positions - segment.start]
        self._taken_ids = own
        self._taken_ranks = ranks_of(steps.token_ids, own)
        rows = np.arange(len(own))
        self._taken = self._logprobs[rows, self._taken_ranks]
        self._before = joint + np.concatenate([[0.0], np.cumsum(self._taken)[:-1]])

    def joint(self, child: Segment) -> float:
        """Of the path up to the first token of a segment that leaves this one."""
        step = int(np.searchsorted(self._steps.positions, child.start))
        rank = ranks_of(self._steps.token_ids[[step]], np.array([child.token_ids[0]]))[0]
        return float(self._before[step] + self._logprobs[step, rank])

    def untried(self, children: Iterable[Segment]) -> dict[str, NDArray[np.generic]]:
        """The columns of `Candidates` but the last."""
        steps = self._steps
        tried = steps.token_ids == self._taken_ids[:, None]
        for child in children:
            step = np.searchsorted(steps.positions, child.start)
            tried[step] |= steps.token_ids[step] == child.token_ids[0]
        rows, ranks = np.nonzero(~tried & np.isfinite(self._logprobs))
        probabilities = np.exp(steps.logprobs.astype(np.float64))
        shapes = _shapes(probabilities)
        return {
            "segments": np.full(len(rows), self._segment.index, dtype=np.int32),
            "positions": steps.positions[rows],
            "ranks": ranks.astype(np.int32),
            "first_untried": np.diff(rows, prepend=-1) != 0,
            "token_ids": steps.token_ids[rows, ranks],
            "taken_ids": self._taken_ids[rows],
            "logprobs": self._logprobs[rows, ranks],
            "probabilities": probabilities[rows, ranks],
            "taken_probabilities": probabilities[rows, self._taken_ranks[rows]],
            "joint_logprobs": self._before[rows] + self._logprobs[rows, ranks],
            **{name: shape[rows] for name, shape in shapes.items()},
        }


def _shapes(probabilities: Floats) -> dict[str, Floats]:
    """What a step's distribution is like; each [n]."""
    surprisals = -np.log(np.maximum(probabilities, np.finfo(float).tiny))
    entropies = (probabilities * surprisals).sum(axis=1)
    squares = (probabilities * surprisals**2).sum(axis=1)
    return {
        "entropies": entropies,
        "varentropies": np.maximum(squares - entropies**2, 0.0),
        "uniform_kl": surprisals.mean(axis=1) - np.log(probabilities.shape[1]),
    }


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]], tree: TokenTree) -> Candidates:
    names = [each.name for each in fields(Candidates) if each.name not in ("remaining", "tree")]
    columns: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in names
    }
    remaining = _expected_remaining(tree.segments, columns["positions"])
    return Candidates(**columns, remaining=remaining, tree=tree)


def _expected_remaining(segments: Iterable[Segment], positions: NDArray[np.int32]) -> Floats:
    """Mean over the finished sequences that go beyond a position of what they have there, or 1."""
    ends = np.sort([segment.end for segment in segments if segment.finish_reason is not None])
    beyond = np.searchsorted(ends, positions, side="right")
    sums = np.concatenate([np.cumsum(ends[::-1])[::-1], [0]])
    counts = np.maximum(len(ends) - beyond, 1)
    expected: Floats = np.maximum(sums[beyond] / counts - positions, 1.0)
    return expected
