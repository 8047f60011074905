"""The frontier of a prompt's tree: the tokens that were possible at a stored step, but not taken.

Each can be opened at any time for the price of its new tokens, since the radix cache holds the
prefix. A priority values them.
"""

from __future__ import annotations

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
    steps = {segment.index: segment.steps for segment in tree.segments}
    stored = {index: known for index, known in steps.items() if known is not None}
    columns = _Rows(tree, stored, reshaping).untried() if stored else _no_columns()
    remaining = _expected_remaining(tree.segments, columns["positions"])
    return Candidates(**columns, remaining=remaining, tree=tree)


def _no_columns() -> dict[str, NDArray[Any]]:
    names = (f.name for f in fields(Candidates) if f.name not in ("remaining", "tree"))
    return {name: np.empty(0) for name in names}


class _Rows:
    """The stored steps of a tree, one segment after the other: a row per step.

    The arrays of all segments are computed together, since most segments have few stored steps.

    Args:
        tree: whose segments have stored steps.
        stored: those steps, by the index of the segment.
        reshaping: of the distributions behind logprobs.
    """

    def __init__(self, tree: TokenTree, stored: Mapping[int, Steps], reshaping: Reshaping) -> None:
        counts = [len(steps.positions) for steps in stored.values()]
        self._stored, self._steps = stored, Steps.join(list(stored.values()))
        self._first_rows = dict(zip(stored, np.cumsum([0, *counts]).tolist(), strict=False))
        self._segments = np.repeat(np.array(list(stored), np.int32), counts)
        self._logprobs = reshaping(self._steps.logprobs)
        self._taken_ids = np.concatenate(
            [_taken_ids(tree.segments[index], steps) for index, steps in stored.items()]
        )
        self._taken_ranks = ranks_of(self._steps.token_ids, self._taken_ids)
        self._tried = self._steps.token_ids == self._taken_ids[:, None]
        self._taken = self._logprobs[np.arange(len(self._taken_ids)), self._taken_ranks]
        self._prefixes: dict[int, Floats] = {}
        for segment in tree.segments:
            self._prefixes[segment.index] = self._prefixes_of(segment)

    def _prefixes_of(self, segment: Segment) -> Floats:
        """Joint log-probability [n + 1] of the path before each of n stored steps, and at its end.

        The path to the first token of the segment has been tried.
        """
        joint_logprob = 0.0 if segment.parent is None else self._enter(segment, segment.parent)
        taken = np.zeros(0)
        if (steps := self._stored.get(segment.index)) is not None:
            row = self._first_rows[segment.index]
            taken = self._taken[row : row + len(steps.positions)]
        return joint_logprob + np.concatenate([[0.0], np.cumsum(taken)])

    def _enter(self, segment: Segment, parent: Segment) -> float:
        """Joint log-probability of the path to the first token of a segment, that included."""
        prefixes, steps = self._prefixes[parent.index], self._stored.get(parent.index)
        if steps is None:
            return float(prefixes[0] + _drawn(segment))
        step = int(np.searchsorted(steps.positions, segment.start))
        if segment.start in steps.positions[step : step + 1]:
            row, matches = self._first_rows[parent.index] + step, steps.token_ids[step]
            ranks = np.flatnonzero(matches == segment.token_ids[0])
            self._tried[row, ranks] = True
            if len(ranks):
                return float(prefixes[step] + self._logprobs[row, ranks[0]])
        return float(prefixes[step] + _drawn(segment))

    def untried(self) -> dict[str, NDArray[Any]]:
        """The columns of `Candidates`, but `remaining`."""
        rows, ranks = np.nonzero(~self._tried & np.isfinite(self._logprobs))
        probabilities = np.exp(self._steps.logprobs.astype(np.float64))
        prefixes = np.concatenate([self._prefixes[index][:-1] for index in self._stored])
        return {
            "segments": self._segments[rows],
            "positions": self._steps.positions[rows],
            "ranks": ranks.astype(np.int32),
            "first_untried": np.diff(rows, prepend=-1) != 0,
            "token_ids": self._steps.token_ids[rows, ranks],
            "taken_ids": self._taken_ids[rows],
            "logprobs": self._logprobs[rows, ranks],
            "probabilities": probabilities[rows, ranks],
            "taken_probabilities": probabilities[rows, self._taken_ranks[rows]],
            "entropies": top_k_entropy(probabilities)[rows],
            "varentropies": top_k_varentropy(probabilities)[rows],
            "uniform_kl": uniform_kl(probabilities)[rows],
            "joint_logprobs": prefixes[rows] + self._logprobs[rows, ranks],
        }


def _taken_ids(segment: Segment, steps: Steps) -> NDArray[np.int32]:
    """The tokens of a segment [n] at its n stored steps."""
    return np.array(segment.token_ids, dtype=np.int32)[steps.positions - segment.start]


def _drawn(segment: Segment) -> float:
    """Logprob, not reshaped, of a segment's first token where its step has no row for it."""
    return segment.raw_logprobs[0]


def _expected_remaining(segments: Iterable[Segment], positions: NDArray[np.int32]) -> Floats:
    """Mean number of tokens behind each position [n] of the finished sequences longer than it."""
    ends = np.sort([segment.end for segment in segments if segment.finish_reason is not None])
    first_longer = np.searchsorted(ends, positions, side="right")
    sums = np.concatenate([np.cumsum(ends[::-1])[::-1], [0]])
    counts = np.maximum(len(ends) - first_longer, 1)
    # At least 1: where no sequence is longer, the token itself has to be drawn.
    return np.asarray(np.maximum(sums[first_longer] / counts - positions, 1.0))
