"""Where samples leave a segment, and to which tokens: known ones, or a token that the server draws.

The tree knows the K most likely tokens of the stored steps, and no others. Samples are exact all
the same, as long as the server's logprobs are of the distribution at the sampling temperature:

- Without top-p and top-k the probability of every token of a segment is known, so that of leaving
  at its step is too. What is left of the whole beside the known tokens is the *tail*. A sample that
  leaves to the tail has its token drawn by the server, which excludes the known ones. At a step
  that is not stored only the token of the segment is known.
- With them, a step at which they keep more than the K tokens is drawn by the server as a whole,
  since the probability that top-p keeps is not known. The draw may be the token of the segment.

Elsewhere a step has its K tokens alone, renormalised (`trie.num_inexact_steps`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eager_sgl.config import SamplingConfig
from eager_sgl.search.trie import Trie, TrieSegment, nucleus_exceeds_top_k
from eager_sgl.signals import Floats, retemper
from eager_sgl.steps import Steps
from eager_sgl.tree import Draw, Segment

__all__ = ["Exit", "Exits"]

_NO_STAYS: Floats = np.empty(0)


@dataclass(frozen=True)
class Exit:
    """A step at which a sample leaves a segment.

    Attributes:
        step: index of the stored step; None where it is not stored.
        weights: float64 [n + 1], of the n known tokens by rank, 0 for that of the segment, and of a
            token that the server draws; n is K, or 0.
        draw: of the server's token.
    """

    step: int | None
    weights: Floats
    draw: Draw

    @property
    def num_known(self) -> int:
        """Number of known tokens."""
        return len(self.weights) - 1


class Exits:
    """The exits of samples from the segments of a tree.

    Args:
        trie: of the tree.
        sampling: the distribution that is drawn from.
        has_sampling_logprobs: as of `TokenTree`.

    Attributes:
        are_exact: whether samples have the distribution of the server's, whatever the K.
    """

    def __init__(
        self, trie: Trie, sampling: SamplingConfig, *, has_sampling_logprobs: bool
    ) -> None:
        self._trie, self._sampling = trie, sampling
        self.are_exact = has_sampling_logprobs and sampling.temperature > 0
        self._has_tails = self.are_exact and sampling.is_whole
        self._draws_whole = self.are_exact and not sampling.is_whole
        self._stays: dict[TrieSegment, Floats] = {}

    def stays(self, node: TrieSegment) -> Floats:
        """Probability [n] that a sample takes the token of each of a segment's steps.

        It is 1 for the first token of a segment that has left another, and 0 at steps that are
        drawn as a whole.
        """
        known = self._stays.get(node, _NO_STAYS)
        if len(known) < len(node.segment.token_ids):
            self._stays[node] = known = np.concatenate([known, self._new_stays(node, len(known))])
        return known

    def _new_stays(self, node: TrieSegment, num_known: int) -> Floats:
        """Those of the tokens after the first `num_known`."""
        segment, first = node.segment, node.segment.start + num_known
        if self._has_tails:
            stays = np.minimum(np.exp(np.array(segment.logprobs[num_known:])), 1.0)
            stays[: segment.parent is not None and not num_known] = 1.0
            return np.asarray(stays)
        stays = np.ones(len(segment.token_ids) - num_known)
        if (steps := segment.steps) is not None:
            step = int(np.searchsorted(node.positions, first))
            rows = node.positions[step:] - first
            stays[rows] = node.p_stay[step:]
            if self._draws_whole:
                stays[rows[nucleus_exceeds_top_k(steps.since(step), self._sampling)]] = 0.0
        return stays

    def at(self, node: TrieSegment, position: int) -> Exit:
        """The exit at a position."""
        segment = node.segment
        steps = segment.steps
        step = None if steps is None else _stored_step(steps, position)
        taken = segment.token_ids[position - segment.start]
        p_taken = min(math.exp(segment.logprobs[position - segment.start]), 1.0)
        if steps is None or step is None:
            return Exit(None, np.ones(1), Draw((taken,), p_taken))
        row = _row(steps, step)
        if self._has_tails:
            return _exit_with_tail(row, step, taken, p_taken, self._sampling.temperature)
        if self._draws_whole and nucleus_exceeds_top_k(row, self._sampling)[0]:
            return Exit(step, np.ones(1), Draw())
        return Exit(step, np.append(self._trie.alternatives(node, step), 0.0), Draw())

    def logprob(self, segment: Segment, step: int, rank: int) -> float:
        """Of a known token in the whole distribution at the sampling temperature."""
        assert segment.steps is not None, f"segment {segment.index} has no stored steps"
        row = _row(segment.steps, step)
        probability = _probabilities(row, self._sampling.temperature)[rank]
        return math.log(probability) if probability else -math.inf

    def raw_logprob(self, segment: Segment, position: int, token: int, logprob: float) -> float:
        """Of a drawn token at temperature 1, over the K of its step.

        Where the step is not stored, it follows from that of the segment's token: differences of
        logprobs are proportional to the temperature.

        Args:
            logprob: at the sampling temperature.
        """
        steps = segment.steps
        step = None if steps is None else _stored_step(steps, position)
        if steps is not None and step is not None:
            ranks = np.flatnonzero(steps.token_ids[step] == token)
            return float(steps.logprobs[step, ranks[0] if len(ranks) else -1])
        index = position - segment.start
        difference = self._sampling.temperature * (logprob - segment.logprobs[index])
        return min(0.0, segment.raw_logprobs[index] + difference)


def _stored_step(steps: Steps, position: int) -> int | None:
    """The index of the step at a position; None if it is not stored."""
    step = int(np.searchsorted(steps.positions, position))
    return step if position in steps.positions[step : step + 1] else None


def _row(steps: Steps, step: int) -> Steps:
    """A step alone."""
    row = slice(step, step + 1)
    return Steps(*(column[row] for column in vars(steps).values()))


def _probabilities(row: Steps, temperature: float) -> Floats:
    """Of the K tokens [K] of a step in the whole distribution at a temperature above 0."""
    weights = retemper(row.logprobs, taken_at=1.0, wanted=temperature)[0]
    return np.asarray(weights * float(row.top_k_mass[0]))


def _exit_with_tail(row: Steps, step: int, taken: int, p_taken: float, temperature: float) -> Exit:
    """An exit to the K tokens of a step, or to the tail."""
    weights, known = _probabilities(row, temperature), row.token_ids[0].tolist()
    mass = float(row.top_k_mass[0])
    if taken in known:
        weights[known.index(taken)] = 0.0
    else:
        known, mass = [*known, taken], mass + p_taken
    tail = max(1.0 - mass, 0.0)
    return Exit(step, np.append(weights, tail), Draw(tuple(known), 1.0 - tail))
