"""Outweighed samples: their votes by probability would weigh next to nothing, so that they end.

The probability of a sequence falls with every token. So a running sample is known to weigh less
than a share of the strongest vote before it (`by_probability`) as soon as its probability so far
does. It ends there, and its vote weighs nothing. Whether a sample is outweighed depends on its
tokens and those of the samples before it alone, not on when tokens arrive.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from enum import Enum

from eager_sgl.tree import Segment
from eager_sgl.voting.votes import MAX_NATS

__all__ = ["OUTWEIGHED", "PathLogprobs", "lowest_logprob", "outweighed", "strongest"]


class _Marker(Enum):
    OUTWEIGHED = "outweighed"


OUTWEIGHED = _Marker.OUTWEIGHED
"""The vote of an outweighed sample, for a rule of weights: it counts, and weighs 0."""


def lowest_logprob(highest: float, share: float) -> float:
    """The log-probability of a sequence whose vote weighs a share of the strongest one.

    Args:
        highest: of the strongest vote, in nats at temperature 1; −∞ without any.
        share: in (0, 1).
    """
    return highest + math.log(share) * max(MAX_NATS, -highest) / MAX_NATS


def outweighed(logprobs: Items[float], votes: Items[Hashable | None], share: float) -> list[bool]:
    """Whether the votes of samples weigh less than a share of the strongest one before them.

    Args:
        logprobs: of the samples, in the order of their starts; of one that has not ended, so far.
            NaN where not known: such a sample is not outweighed.
        votes: None does not vote, and outweighs no other.
        share: in (0, 1); 0 outweighs none.
    """
    highest, found = -math.inf, []
    for logprob, vote in zip(logprobs, votes, strict=True):
        found.append(share > 0 and logprob < lowest_logprob(highest, share))
        if vote is not None and logprob > highest:
            highest = logprob
    return found


def strongest(logprobs: Items[float], votes: Items[Hashable | None]) -> float:
    """The highest log-probability of a sample that votes; −∞ without any."""
    known = (logprob for logprob, vote in zip(logprobs, votes, strict=True) if vote is not None)
    return max((logprob for logprob in known if not math.isnan(logprob)), default=-math.inf)


@dataclass
class PathLogprobs:
    """Log-probabilities at temperature 1 of the paths to the ends of segments, which may grow."""

    _known: dict[Segment, tuple[int, float]] = field(default_factory=dict)

    def of(self, segment: Segment) -> float:
        """In nats; NaN where a token's is not known."""
        number, total = self._known.get(segment) or (0, _before(segment))
        total += sum(segment.raw_logprobs[number:])
        self._known[segment] = len(segment.raw_logprobs), total
        return total


def _before(segment: Segment) -> float:
    passed = segment.lineage()[:-1]
    return sum(sum(parent.raw_logprobs[: end - parent.start]) for parent, end in passed)
