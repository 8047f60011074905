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

from eager_sgl.config import require
from eager_sgl.tree import Segment
from eager_sgl.voting.deciding import ByCounts, VoteRule, WeightedRule
from eager_sgl.voting.votes import MAX_NATS
from eager_sgl.voting.weighing import Weigh, by_probability

__all__ = [
    "WEIGHTLESS",
    "PathLogprobs",
    "find_outweighed",
    "lowest_logprob",
    "require_outweighing",
]


class _Marker(Enum):
    WEIGHTLESS = "weightless"


WEIGHTLESS = _Marker.WEIGHTLESS
"""The vote of an outweighed sample, for a rule of weights: it counts, and weighs 0."""


def require_outweighing(
    share: float,
    weigh: Weigh | None,
    rule: VoteRule | WeightedRule | None,
    *,
    ends_otherwise: bool,
) -> None:
    """Require that a vote may end outweighed samples.

    Args:
        share: of the strongest vote; 0 where none ends, in any vote.
        weigh: the weights of votes; None for a vote of counts.
        rule: that decides; None for the default one.
        ends_otherwise: whether samples are cut or probed too.

    Raises:
        ValueError: the share is none, or the vote is not by probability and by a rule of weights,
            or ends samples otherwise.
    """
    require(0 <= share < 1, "outweighed", share, "a share in [0, 1)")
    by_weights = weigh is by_probability and not isinstance(rule, ByCounts)
    if share and (not by_weights or ends_otherwise):
        raise ValueError(
            f"outweighed is {share}; it needs weights by probability and a rule that decides by "
            "weights, without cutting and probing"
        )


def lowest_logprob(highest: float, share: float) -> float:
    """The log-probability of a sequence whose vote weighs a share of the strongest one.

    Args:
        highest: of the strongest vote, in nats at temperature 1; −∞ without any.
        share: in (0, 1); 0 gives −∞.
    """
    if not share:
        return -math.inf
    return highest + math.log(share) * max(MAX_NATS, -highest) / MAX_NATS


def find_outweighed(
    logprobs: Items[float], votes: Items[Hashable | None], share: float
) -> tuple[list[bool], float]:
    """Whether the votes of samples weigh less than a share of the strongest one before them.

    Args:
        logprobs: of the samples, in the order of their starts; of one that has not ended, so far.
            NaN where not known: such a sample is not outweighed.
        votes: None does not vote, and outweighs no other.
        share: in (0, 1); 0 outweighs none.

    Returns:
        One value per sample, and the log-probability below which later samples are outweighed.
    """
    highest, lowest, is_out = -math.inf, -math.inf, []
    for logprob, vote in zip(logprobs, votes, strict=True):
        is_out.append(logprob < lowest)
        if vote is not None and logprob > highest:
            highest, lowest = logprob, lowest_logprob(logprob, share)
    return is_out, lowest


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
