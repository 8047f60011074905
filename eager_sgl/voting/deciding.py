"""Vote rules: whether the votes so far decide which answer is the most likely one.

A rule sees the votes of independent samples in the order in which the samples started: samples in
the order of their ends would be biased towards short ones. `BetaRule` and `ModeTest` are tests on
counts, which say nothing of weights (`ByCounts`); `ConsensusShare` takes both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

from eager_sgl.config import require, require_whole
from eager_sgl.voting.votes import vote_confidence, vote_totals, vote_winner

__all__ = [
    "BetaRule",
    "ByCounts",
    "ConsensusShare",
    "ModeTest",
    "Undecided",
    "VoteRule",
    "WeightedRule",
    "num_missing",
    "num_to_start",
    "require_ahead",
]

AHEAD, MAX_AHEAD = 1.0, 1000
"""See `num_to_start`: beside 0, 1 halves the time of votes of counts for 5 to 9 % more tokens."""


class VoteRule(Protocol):
    """Decides a vote."""

    def __call__(self, votes: Items[Hashable | None]) -> bool:
        """Whether the leading answer is the most likely one.

        Args:
            votes: one per sample, in the order of their starts; None does not vote.
        """


class WeightedRule(Protocol):
    """Decides a vote of weights."""

    def __call__(self, votes: Items[Hashable | None], weights: Items[float]) -> bool:
        """Whether the leading answer stays the leading one.

        Args:
            votes: one per sample, in the order of their starts; None does not vote.
            weights: of the samples; 0 of those that do not vote.
        """


@dataclass(frozen=True)
class BetaRule:
    """The Beta rule of Adaptive-Consistency (Aggarwal et al. 2023).

    It compares the first two answers as if they were the only ones, once; being asked after every
    sample, it errs more often than 1 − confidence. Four equal votes decide at 0.95.

    Attributes:
        confidence: `majority_confidence` above which a vote is decided.
    """

    confidence: float = 0.95

    def __post_init__(self) -> None:
        require(0.5 <= self.confidence < 1, "confidence", self.confidence, "a number in [0.5, 1)")

    def __call__(self, votes: Items[Hashable | None]) -> bool:
        return vote_confidence(vote_totals(votes)) > self.confidence


@dataclass(frozen=True)
class ModeTest:
    """A test that errs with at most a stated probability, however often it is asked.

    The leading answer has to beat every other one, unseen ones included, in a test of their two
    shares by the prior-posterior ratio (Waudby-Smith & Ramdas 2020; for the mode, Jain et al.
    2022): with a uniform prior, 2^(a + b) · B(a + 1, b + 1) for a and b votes is a martingale where
    both answers are as likely. Votes count from the second of the leading answer on. The k-th
    answer to appear may err with 6 / (π k)² of the error; so neither the number of answers nor that
    of votes has to be known. Ten equal votes decide at 0.05.

    Attributes:
        error: probability that another answer is more likely than the one that is ever decided on.
    """

    error: float = 0.05

    def __post_init__(self) -> None:
        require(0 < self.error < 1, "error", self.error, "a number in (0, 1)")

    def __call__(self, votes: Items[Hashable | None]) -> bool:
        leading = vote_winner(votes)
        if leading is None:
            return False
        order = list(vote_totals(votes))
        after = Counter(votes[list(votes).index(leading) + 1 :])
        num_leading = after.pop(leading, 0)
        after.pop(None, 0)
        num_rival = max(after.values(), default=0)
        if num_leading <= num_rival:
            return False
        bound = (math.pi * (order.index(leading) + 1)) ** 2 / 6 / self.error
        return _log_ratio(num_leading, num_rival) >= math.log(bound)


@dataclass(frozen=True)
class ConsensusShare:
    """The leading answer has a share of all votes (the stop rule of DeepConf, arXiv 2508.15260).

    It is no test: no probability of an error follows from it.

    Attributes:
        share: of the weights, in (0.5, 1].
        at_least: number of sequences that have to vote first.
    """

    share: float = 0.95
    at_least: int = 8

    def __post_init__(self) -> None:
        require(0.5 < self.share <= 1, "share", self.share, "a share in (0.5, 1]")
        require_whole("at_least", self.at_least, 1)

    def __call__(self, votes: Items[Hashable | None], weights: Items[float] | None = None) -> bool:
        totals = vote_totals(votes, weights).values()
        has_voted = sum(vote is not None for vote in votes) >= self.at_least
        return has_voted and 0 < self.share * sum(totals) <= max(totals)


def _log_ratio(first: int, second: int) -> float:
    """ln of prior over posterior density at equal shares."""
    log_beta = math.lgamma(first + 1) + math.lgamma(second + 1) - math.lgamma(first + second + 2)
    return (first + second) * math.log(2) + log_beta


@dataclass(frozen=True)
class ByCounts:
    """A rule of counts decides when a vote of weights ends; the weights choose the winner.

    What the rule says of errors holds for the answer with the most votes, not for the winner.

    Attributes:
        rule: of counts.
    """

    rule: VoteRule

    def __call__(self, votes: Items[Hashable | None], weights: Items[float]) -> bool:
        return self.rule(votes)


@dataclass(frozen=True)
class Undecided:
    """Never decides, so that all M samples vote."""

    def __call__(self, votes: Items[Hashable | None], weights: Items[float] = ()) -> bool:
        return False


def num_missing(
    rule: Callable[..., bool],
    votes: Items[Hashable | None],
    limit: int,
    weights: Items[float] | None = None,
) -> int:
    """The least number of further votes that can decide, all for the leading answer.

    Args:
        rule: a `VoteRule`; with weights a `WeightedRule`.
        weights: of the votes; those of further ones are taken to be the mean of these. None for a
            vote of counts.

    Returns:
        0 where the vote is decided, which one without votes never is; at most `limit`.
    """
    if isinstance(rule, ByCounts):
        return num_missing(rule.rule, votes, limit)
    leading, supposed = vote_winner(votes, weights), list(votes)
    vote = object() if leading is None else leading
    weighed = [] if weights is None else [list(weights)]
    for number in range(limit):
        if supposed and rule(supposed, *weighed):
            return number
        supposed.append(vote)
        for column in weighed:
            column.append(_mean_weight(votes, column[: len(votes)]))
    return limit


def require_ahead(name: str, ahead: float) -> None:
    """Raises ValueError with the argument's name where it is not as `num_to_start` takes it."""
    require(0 <= ahead <= MAX_AHEAD, name, ahead, f"a number from 0 to {MAX_AHEAD}")


def num_to_start(
    rule: Callable[..., bool],
    votes: Items[Hashable | None],
    missing: int,
    ahead: float,
    weights: Items[float] | None = None,
) -> int:
    """Number of further samples that run, so that the missing votes are soon there.

    Further samples are taken to give the leading answer as often as those so far: one of n / l
    votes for it, where l of n have. So a clear vote costs hardly more, and a doubtful one, which
    most likely continues, does not wait for its few running samples again and again.

    Args:
        votes: as for `num_missing`.
        missing: what that returns.
        ahead: times that number, up to `MAX_AHEAD`; with 0 only the missing votes are started.
        weights: of the votes, as for `num_missing`; l is then in votes of their mean weight.

    Returns:
        At least the missing votes.
    """
    counted = None if weights is None or isinstance(rule, ByCounts) else weights
    leading = max(vote_totals(votes, counted).values(), default=0.0)
    if counted is not None:
        leading /= _mean_weight(votes, counted)
    number = ahead * missing * max(len(votes), 1) / max(leading, 1.0)
    return max(missing, math.ceil(round(number, 9)))  # sums of weights are rounded


def _mean_weight(votes: Items[Hashable | None], weights: Items[float]) -> float:
    """Of the sequences that vote; 1 without any."""
    known = [weight for vote, weight in zip(votes, weights, strict=True) if vote is not None]
    return sum(known) / len(known) if sum(known) else 1.0
