"""Redundant forks: priorities that learn from a prompt's own tree which choices change nothing.

Many choices of language are redundant: a synonym, a filler, an order. They have the entropy of
decisions, and a search by entropy spends its forks on them. Two signs distinguish them without
labels, without further requests, and without a list of words:

*Recurrence.* A redundant choice recurs with the same options ("so", "then", "next"), and after a
few sequences each option has been taken somewhere. Recurring options are opened later. Branches
that reach the same choice by other words thereby share what they have taken.

*Divergence.* After a redundant fork the model expects the same next tokens of both sequences; after
a decision it soon does not. Low divergence of the forks so far discounts later forks at the same
options.

The *options* of a step are its likely tokens. Both signs are functions of the tree alone: nothing
is remembered between rounds or prompts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eager_sgl.search.frontier import Candidates, Priority, Reshaping
from eager_sgl.signals import Floats
from eager_sgl.tree import Segment, TokenTree

__all__ = ["Divergent", "Novel", "divergence", "recurrences"]

MIN_PROBABILITY = 0.1
"""Of a token among a step's options; the most likely token is always one."""

Options = bytes
"""The sorted token ids."""
_NO_OPTIONS: Options = b""


@dataclass(frozen=True)
class Novel:
    """The base priority's value minus ln(1 + how often the token was taken from these options).

    Attributes:
        base: any other priority.
    """

    base: Priority

    @property
    def reshaping(self) -> Reshaping:
        """That of the base priority."""
        return self.base.reshaping

    def __call__(self, candidates: Candidates) -> Floats:
        return np.asarray(self.base(candidates) - np.log1p(recurrences(candidates)))


@dataclass(frozen=True)
class Divergent:
    """The base priority's value plus ln of the mean divergence of the forks at these options.

    Every mean includes a divergence of 1, so that options without a fork count as a decision.

    Attributes:
        base: any other priority.
        horizon: number of tokens behind a fork that are compared.
    """

    base: Priority
    horizon: int = 12

    @property
    def reshaping(self) -> Reshaping:
        """That of the base priority."""
        return self.base.reshaping

    def __call__(self, candidates: Candidates) -> Floats:
        options = _Options(candidates.tree)
        divergences: dict[Options, list[float]] = defaultdict(lambda: [1.0])
        for segment in candidates.tree.segments:
            if segment.parent is not None:
                at_fork = options.at(segment.parent.index, segment.start)
                divergences[at_fork].append(divergence(segment, self.horizon))
        logs = {key: float(np.log(np.mean(values))) for key, values in divergences.items()}
        discounts = [logs.get(key, 0.0) for key in options.of(candidates)]
        return np.asarray(self.base(candidates) + np.array(discounts))


def recurrences(candidates: Candidates) -> Floats:
    """Number of steps of the tree with a candidate's options at which its token was taken; [n]."""
    options = _Options(candidates.tree)
    taken = Counter((options.at(index, at), token) for index, at, token in _taken(candidates.tree))
    keys = zip(options.of(candidates), candidates.token_ids.tolist(), strict=True)
    return np.array([taken[key] for key in keys], dtype=float)


def _taken(tree: TokenTree) -> Iterator[tuple[int, int, int]]:
    """Every token taken at a stored step or a branch: index of the segment, position, token id.

    The first token of a segment was taken at a step of its parent.
    """
    for segment in tree.segments:
        if segment.steps is not None:
            for position in segment.steps.positions.tolist():
                yield segment.index, position, segment.token_ids[position - segment.start]
        if segment.parent is not None:
            yield segment.parent.index, segment.start, segment.token_ids[0]


class _Options:
    """The options of all stored steps of a tree."""

    def __init__(self, tree: TokenTree) -> None:
        self._by_step: dict[tuple[int, int], Options] = {}
        for segment in tree.segments:
            if (steps := segment.steps) is not None:
                floor = np.minimum(np.log(MIN_PROBABILITY), steps.logprobs[:, :1])
                likely = steps.logprobs >= floor
                rows = zip(steps.positions.tolist(), steps.token_ids, likely, strict=True)
                for position, token_ids, is_option in rows:
                    options = np.sort(token_ids[is_option]).tobytes()
                    self._by_step[segment.index, position] = options

    def at(self, segment: int, position: int) -> Options:
        """The options of a step, by the index of its segment and its position.

        A step that is not stored has none; the server may have drawn a branch there.
        """
        return self._by_step.get((segment, position), _NO_OPTIONS)

    def of(self, candidates: Candidates) -> list[Options]:
        """The options of each candidate's step."""
        steps = zip(candidates.segments.tolist(), candidates.positions.tolist(), strict=True)
        return [self._by_step[step] for step in steps]


def divergence(segment: Segment, horizon: int) -> float:
    """How much the next-token distributions of a segment and its parent differ, in [0, 1].

    It is the largest total variation from the fork to the next token in which the two differ;
    beyond it, that later choice may be the cause. A step that is not stored counts as certain; with
    no token behind the fork the divergence is 1.

    Args:
        horizon: number of tokens behind the fork that are compared.
    """
    parent = segment.parent
    assert parent is not None, f"segment {segment.index} has no parent"
    end = min(segment.end, parent.end, segment.start + 1 + horizon)
    distances = []
    for position in range(segment.start + 1, end):
        of_segment, of_parent = _expected(segment, position), _expected(parent, position)
        shared = sum(min(p, of_parent.get(token, 0.0)) for token, p in of_segment.items())
        distances.append(1 - shared)
        if segment.token_ids[position - segment.start] != parent.token_ids[position - parent.start]:
            break
    return min(max(distances, default=1.0), 1.0)


def _expected(segment: Segment, position: int) -> dict[int, float]:
    """Probability by token id at a step of a segment, at temperature 1."""
    steps = segment.steps
    if steps is not None:
        step = int(np.searchsorted(steps.positions, position))
        if step < len(steps.positions) and steps.positions[step] == position:
            probabilities = np.exp(steps.logprobs[step].astype(np.float64)).tolist()
            return dict(zip(steps.token_ids[step].tolist(), probabilities, strict=True))
    return {segment.token_ids[position - segment.start]: 1.0}
