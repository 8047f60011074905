"""Choices without consequence: priorities that learn from a prompt's own tree which forks are idle.

Language is full of choices that might as well be others: a synonym, a filler, an order. They have
the entropy of decisions, and a search that goes by entropy spends its forks on them. Two signs tell
them apart without labels, without further requests, and without a list of words:

*Recurrence.* An idle choice comes again and again with the same options ("so", "then", "next"), and
after a few sequences each of them has been taken somewhere. What recurs is opened later. That also
merges branches which have come to the same choice by other words: what one took there, is not new
to the other.

*Consequence.* After an idle fork the model expects of both sequences the same next tokens. After
a decision it soon does not. What forks at the same options showed, counts for those to come.

The *options* of a step are its likely tokens. Both signs are functions of the tree alone: nothing
is remembered between rounds or prompts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eager_sgl.search.frontier import Candidates, Floats, Reshaping
from eager_sgl.tree import Segment, TokenTree

if TYPE_CHECKING:
    from eager_sgl.search.priorities import Priority

__all__ = ["Divergent", "Novel", "divergence", "recurrences"]

LIKELY = 0.1
"""Least probability of a token that is one of a step's options."""

Options = bytes


@dataclass(frozen=True)
class Novel:
    """Another priority's value, less ln(1 + how often the token was taken from these options).

    Attributes:
        base: the other priority.
    """

    base: Priority

    @property
    def reshaping(self) -> Reshaping:
        """The other priority's."""
        return self.base.reshaping

    def __call__(self, candidates: Candidates) -> Floats:
        return np.asarray(self.base(candidates) - np.log1p(recurrences(candidates)))


@dataclass(frozen=True)
class Divergent:
    """Another priority's value, plus ln of the mean consequence of the forks at these options.

    Options that nothing was forked at count as a decision; every mean begins with a consequence
    of 1.

    Attributes:
        base: the other priority.
        horizon: tokens behind a fork that are looked at.
    """

    base: Priority
    horizon: int = 12

    @property
    def reshaping(self) -> Reshaping:
        """The other priority's."""
        return self.base.reshaping

    def __call__(self, candidates: Candidates) -> Floats:
        options = _Options(candidates.tree)
        seen: dict[Options, list[float]] = defaultdict(lambda: [1.0])
        for segment in candidates.tree.segments:
            if segment.parent is not None:
                found = divergence(segment, self.horizon)
                seen[options.at(segment.parent.index, segment.start)].append(found)
        logs = {each: float(np.log(np.mean(found))) for each, found in seen.items()}
        discounts = [logs.get(each, 0.0) for each in options.of(candidates)]
        return np.asarray(self.base(candidates) + np.array(discounts))


def recurrences(candidates: Candidates) -> Floats:
    """How many steps of the tree had the options of a candidate's step and took its token; [n]."""
    options = _Options(candidates.tree)
    taken = Counter((options.at(index, at), token) for index, at, token in _taken(candidates.tree))
    keys = zip(options.of(candidates), candidates.token_ids.tolist(), strict=True)
    return np.array([taken[key] for key in keys], dtype=float)


def _taken(tree: TokenTree) -> Iterator[tuple[int, int, int]]:
    """Every token taken at a stored step: index of the segment it lies on, position, token.

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
        self._found: dict[tuple[int, int], Options] = {}
        for segment in tree.segments:
            if (steps := segment.steps) is not None:
                likely = steps.logprobs >= np.minimum(np.log(LIKELY), steps.logprobs[:, :1])
                rows = zip(steps.positions.tolist(), steps.token_ids, likely, strict=True)
                for position, ids, among in rows:
                    self._found[segment.index, position] = np.sort(ids[among]).tobytes()

    def at(self, segment: int, position: int) -> Options:
        """Of a segment's step."""
        return self._found[segment, position]

    def of(self, candidates: Candidates) -> list[Options]:
        """Of the step of each candidate."""
        places = zip(candidates.segments.tolist(), candidates.positions.tolist(), strict=True)
        return [self._found[place] for place in places]


def divergence(segment: Segment, horizon: int) -> float:
    """How differently a segment and the one it left go on, in [0, 1].

    It is the largest total variation between the distributions of their next tokens, as long as
    both say the same: from where they do not, a difference may be the later choice's. A step that
    is not stored counts as certain, and a fork with nothing behind it as a decision.

    Args:
        horizon: tokens behind the fork that are looked at.
    """
    parent = segment.parent
    assert parent is not None, f"segment {segment.index} has left no other"
    end = min(segment.end, parent.end, segment.start + 1 + horizon)
    distances = []
    for position in range(segment.start + 1, end):
        one, other = _expected(segment, position), _expected(parent, position)
        shared = sum(min(chance, other.get(token, 0.0)) for token, chance in one.items())
        distances.append(1 - shared)
        if segment.token_ids[position - segment.start] != parent.token_ids[position - parent.start]:
            break
    return min(max(distances, default=1.0), 1.0)


def _expected(segment: Segment, position: int) -> dict[int, float]:
    """The model's distribution at a step of a segment's own."""
    steps = segment.steps
    if steps is not None:
        at = int(np.searchsorted(steps.positions, position))
        if at < len(steps.positions) and steps.positions[at] == position:
            chances = np.exp(steps.logprobs[at].astype(np.float64)).tolist()
            return dict(zip(steps.token_ids[at].tolist(), chances, strict=True))
    return {segment.token_ids[position - segment.start]: 1.0}
