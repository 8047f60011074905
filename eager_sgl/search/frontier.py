"""The frontier of a prompt's tree: the tokens that were possible at a stored step, but not taken.

Each can be opened at any time for the price of its new tokens, since the radix cache holds the
prefix. A priority values them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import TopLogprobs
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.policy import StepSignals
from eager_sgl.signals import (
    Floats,
    reshape_logprobs,
    retemper,
    top_k_entropy,
    top_k_mass_bound,
    top_k_varentropy,
    uniform_kl,
)
from eager_sgl.steps import Steps, ranks_of
from eager_sgl.tree import Segment, TokenTree

__all__ = ["NO_RESHAPING", "Candidates", "Priority", "Reshaping", "StepRecorder", "candidates"]

CERTAIN = 0.995
"""Probability from which a token counts as certain; 92 % of the steps studied had such a token."""
GATE_MARGIN = 1e-4
"""The gate reports steps a little above the bound too: its probabilities are rounded."""
EVERY_STEP = 2.0
"""A gate's bound that no probability reaches, not even a rounded one."""


@dataclass(frozen=True)
class StepRecorder:
    """A policy that never branches, and stores the steps at which a search may.

    Attributes:
        stored_below: a step is stored where its most likely token has a smaller probability.
        temperature: of the distribution that `Steps.top_k_mass` belongs to; None for that of the
            server's logprobs.
        stored_below_bound: in place of `stored_below` where `Steps.top_k_mass` is a bound, since
            the server's logprobs are of another temperature; None for the same.
    """

    stored_below: float = CERTAIN
    temperature: float | None = None
    stored_below_bound: float | None = None

    def gate(self, top_k: int) -> Gate:
        """A gate that reports at least the steps to be stored, and signals of all tokens."""
        return Gate(
            top_k=top_k,
            stored_below=min(self.stored_below + GATE_MARGIN, EVERY_STEP),
            columns=("logprobs", "raw_logprobs", "entropies"),
        )

    def __call__(self, top: TopLogprobs, sampled: Sequence[int], start: int) -> StepSignals:
        probabilities = retemper(top.logprobs, taken_at=top.temperature, wanted=1.0)
        with np.errstate(divide="ignore"):
            logprobs = np.log(probabilities).astype(np.float32)
        taken_ranks = ranks_of(top.token_ids, np.asarray(sampled, dtype=np.int32))
        wanted = top.temperature if self.temperature is None else self.temperature
        top_k_mass = top_k_mass_bound(top.logprobs, taken_at=top.temperature, wanted=wanted)
        stored_below = self.stored_below
        if self.stored_below_bound is not None and top.temperature != wanted:
            stored_below = self.stored_below_bound
        stored = np.flatnonzero(probabilities[:, 0] * top_k_mass < stored_below)
        return StepSignals(
            entropies=top_k_entropy(probabilities).tolist(),
            branch_points=[],
            steps=Steps(
                positions=(stored + start).astype(np.int32),
                token_ids=top.token_ids[stored],
                logprobs=logprobs[stored],
                top_k_mass=top_k_mass[stored].astype(np.float32),
            ),
            raw_logprobs=logprobs[np.arange(len(taken_ranks)), taken_ranks].tolist(),
        )


@dataclass(frozen=True)
class Reshaping:
    """How the distribution of a step is changed for a priority (`signals.reshape_logprobs`).

    Attributes:
        temperature: probabilities become proportional to p^(1/temperature).
        min_p: removes tokens whose probability is below this share of the highest one.
    """

    temperature: float = 1.0
    min_p: float = 0.0

    def __call__(self, logprobs: NDArray[np.float32]) -> Floats:
        """Normalised logprobs [n, K]; -inf where a token is removed."""
        return reshape_logprobs(logprobs, temperature=self.temperature, min_p=self.min_p)


NO_RESHAPING = Reshaping()


@dataclass(frozen=True)
class Candidates:
    """The untried tokens of a tree with the evidence for a priority; all arrays are [n].

    Attributes:
        segments: index of the segment on which the step lies.
        positions: of the step.
        ranks: of the untried token among the K of the step, 0 for the most likely one.
        first_untried: whether every more likely token of the step has been tried.
        token_ids: the untried token.
        taken_ids: the token of the segment at the step.
        logprobs: of the untried token at the step, reshaped.
        probabilities: of the untried token at temperature 1.
        taken_probabilities: of the segment's token at temperature 1.
        entropies: of the step over the K, in nats.
        varentropies: variance of −ln p at the step, in nats².
        uniform_kl: KL(uniform ‖ p) over the K at the step, in nats: self-certainty.
        joint_logprobs: of the prefix and the untried token, reshaped; steps that are not stored
            count as certain.
        remaining: expected tokens from here to the end, from the lengths of finished sequences.
        tree: the whole tree.
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


class Priority(Protocol):
    """Values the candidates of a frontier: the highest is opened first, −inf never."""

    @property
    def reshaping(self) -> Reshaping:
        """Of the distributions behind `logprobs` and `joint_logprobs` of the candidates."""

    def __call__(self, candidates: Candidates) -> Floats:
        """A value per candidate [n], without NaN."""


def candidates(tree: TokenTree, reshaping: Reshaping = NO_RESHAPING) -> Candidates:
    """All untried tokens, by segment, then rising position, then falling probability."""
    children: dict[int, list[Segment]] = defaultdict(list)
    for segment in tree.segments:
        if segment.parent is not None:
            children[segment.parent.index].append(segment)
    joint_logprobs: dict[int, float] = {}
    parts = []
    for segment in tree.segments:
        joint_logprob, left = joint_logprobs.get(segment.index, 0.0), children[segment.index]
        if segment.steps is None:
            joint_logprobs |= {child.index: joint_logprob + _drawn(child) for child in left}
            continue
        view = _SegmentView(segment, segment.steps, reshaping, joint_logprob)
        parts.append(view.untried(left))
        joint_logprobs |= {child.index: view.joint_logprob(child) for child in left}
    return _join(parts, tree)


def _drawn(child: Segment) -> float:
    """Logprob, not reshaped, of a segment's first token where its step has no row for it."""
    return child.raw_logprobs[0]


class _SegmentView:
    """A segment's stored steps, and the joint log-probability of the prefix of each, reshaped."""

    def __init__(
        self, segment: Segment, steps: Steps, reshaping: Reshaping, joint_logprob: float
    ) -> None:
        self._segment = segment
        self._steps = steps
        self._logprobs = reshaping(steps.logprobs)
        token_ids = np.array(segment.token_ids, dtype=np.int32)
        self._taken_ids = token_ids[steps.positions - segment.start]
        self._taken_ranks = ranks_of(steps.token_ids, self._taken_ids)
        taken = self._logprobs[np.arange(len(self._taken_ids)), self._taken_ranks]
        self._prefixes = joint_logprob + np.concatenate([[0.0], np.cumsum(taken)])

    def joint_logprob(self, child: Segment) -> float:
        """Of the path to the first token of a segment that leaves this one, that included."""
        steps = self._steps
        step = int(np.searchsorted(steps.positions, child.start))
        if child.start in steps.positions[step : step + 1]:
            ranks = np.flatnonzero(steps.token_ids[step] == child.token_ids[0])
            if len(ranks):
                return float(self._prefixes[step] + self._logprobs[step, ranks[0]])
        return float(self._prefixes[step] + _drawn(child))

    def untried(self, children: Iterable[Segment]) -> dict[str, NDArray[np.generic]]:
        """The columns of `Candidates`, but `remaining`."""
        steps = self._steps
        tried = steps.token_ids == self._taken_ids[:, None]
        for child in children:
            rows = steps.positions == child.start
            tried[rows] |= steps.token_ids[rows] == child.token_ids[0]
        rows, ranks = np.nonzero(~tried & np.isfinite(self._logprobs))
        probabilities = np.exp(steps.logprobs.astype(np.float64))
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
            "entropies": top_k_entropy(probabilities)[rows],
            "varentropies": top_k_varentropy(probabilities)[rows],
            "uniform_kl": uniform_kl(probabilities)[rows],
            "joint_logprobs": self._prefixes[:-1][rows] + self._logprobs[rows, ranks],
        }


def _join(parts: Sequence[Mapping[str, NDArray[Any]]], tree: TokenTree) -> Candidates:
    names = [f.name for f in fields(Candidates) if f.name not in ("remaining", "tree")]
    columns: dict[str, NDArray[Any]] = {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in names
    }
    remaining = _expected_remaining(tree.segments, columns["positions"])
    return Candidates(**columns, remaining=remaining, tree=tree)


def _expected_remaining(segments: Iterable[Segment], positions: NDArray[np.int32]) -> Floats:
    """Mean number of tokens behind each position [n] of the finished sequences longer than it."""
    ends = np.sort([segment.end for segment in segments if segment.finish_reason is not None])
    first_longer = np.searchsorted(ends, positions, side="right")
    sums = np.concatenate([np.cumsum(ends[::-1])[::-1], [0]])
    counts = np.maximum(len(ends) - first_longer, 1)
    # At least 1: where no sequence is longer, the token itself has to be drawn.
    return np.asarray(np.maximum(sums[first_longer] / counts - positions, 1.0))
