"""When votes are decided: how many further votes a rule needs at least, after each of them.

The rules are those of `eager_sgl.voting.deciding`. What they decide depends on few numbers, so that
a table of their decisions, made by the rules themselves, answers for all orders at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eager_sgl import BetaRule, ConsensusShare, ModeTest, VoteRule
from eager_sgl.signals import Floats
from eager_sgl.voting.deciding import num_missing

__all__ = ["ALL", "CountRule", "Number", "Start", "Waves", "missing_votes", "samples_to_start"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Number:
    """A fixed number of votes: Full Parallel with as many sequences; None for all M."""

    value: int | None = None


ALL = Number()
CountRule = Number | BetaRule | ModeTest
Start = CountRule | ConsensusShare


@dataclass(frozen=True)
class Waves:
    """Samples start in waves; the rule is asked at the end of each.

    Attributes:
        size: of the first wave.
        growth: of the number of samples with each wave: 1 for waves of one size, 2 for a doubling.
    """

    size: int
    growth: int = 1

    def ends(self, max_sequences: int) -> list[int]:
        """Number of samples after each wave, up to M."""
        ends = [0]
        while ends[-1] < max_sequences:
            grown = ends[-1] + self.size if self.growth == 1 else ends[-1] * self.growth
            ends.append(min(max(grown, self.size), max_sequences))
        return ends

    def asked(self, missing: Counts) -> Counts:
        """Votes that are missing [R, M + 1] where a rule is asked at the ends of waves alone."""
        number = missing.shape[1]
        ends, after = np.array(self.ends(number - 1)), np.arange(number)
        following = np.minimum(np.searchsorted(ends, after, side="right"), len(ends) - 1)
        is_decided = (missing == 0) & np.isin(after, ends[1:])
        return np.where(is_decided, 0, ends[following] - after)


def missing_votes(start: CountRule, votes: Counts, waves: Waves | None = None) -> Counts:
    """Votes that are missing at least after 0 … M votes [R, M + 1]; 0 where it is decided.

    Args:
        votes: int64 [R, M], classes, negative without an answer.
    """
    limit = votes.shape[1]
    after = np.arange(limit + 1)
    if isinstance(start, Number):
        fixed = np.maximum((start.value or limit) - after, 0)
        return np.broadcast_to(np.minimum(fixed, limit - after), (len(votes), limit + 1))
    missing = _of_beta(start, votes) if isinstance(start, BetaRule) else _of_mode(start, votes)
    missing = np.minimum(missing, limit - after)
    return missing if waves is None else waves.asked(missing)


def samples_to_start(missing: Counts, leading: Floats, ahead: float) -> Counts:
    """As `num_to_start`, after 0 … M votes [R, M + 1].

    Args:
        leading: [R, M + 1], votes of the leading answer, in votes of the mean weight.
    """
    num_votes = np.maximum(np.arange(missing.shape[1]), 1)
    expected = np.ceil(np.round(ahead * missing * num_votes / np.maximum(leading, 1.0), 9))
    return np.asarray(np.maximum(missing, expected.astype(np.int64)))


def _of_beta(rule: BetaRule, votes: Counts) -> Counts:
    """By the votes of the first two answers."""
    table, lead, second = _beta_table(rule, votes.shape[1]), *np.zeros((2, len(votes)), int)
    counts = np.zeros((len(votes), max(int(votes.max(initial=0)) + 1, 1)), int)
    leader, rows = np.full(len(votes), -1), np.arange(len(votes))
    missing = [table[lead, second]]
    for vote in votes.T:
        cast = vote >= 0
        counts[rows[cast], vote[cast]] += 1
        number = np.where(cast, counts[rows, np.maximum(vote, 0)], 0)
        leads, is_leader = number > lead, vote == leader
        second = np.where(
            leads & ~is_leader,
            lead,
            np.where(cast & ~is_leader, np.maximum(second, number), second),
        )
        leader, lead = np.where(leads, vote, leader), np.where(leads, number, lead)
        missing.append(table[lead, second])
    return np.array(missing).T


@lru_cache(maxsize=64)
def _beta_table(rule: VoteRule, limit: int) -> Counts:
    """Votes that are missing, by those of the first and the second answer."""
    table = np.zeros((limit + 1, limit + 1), int)
    for lead in range(limit + 1):
        for second in range(min(lead, limit - lead) + 1):
            table[lead, second] = num_missing(rule, [0] * lead + [1] * second, limit)
    return table


def _of_mode(rule: ModeTest, votes: Counts) -> Counts:
    """By the leading answer's number, and the votes for it and a rival since its first."""
    num_rows, limit = votes.shape
    num_classes = max(int(votes.max(initial=0)) + 1, 1)
    table, rows = _mode_table(rule, num_classes, limit), np.arange(num_rows)
    counts = np.zeros((num_rows, num_classes), int)
    at_first = np.zeros((num_rows, num_classes, num_classes), int)
    numbers = np.zeros((num_rows, num_classes), int)  # from 1, in the order of appearance
    missing = [np.full(num_rows, table[0, 0, 0])]
    for vote in votes.T:
        cast = vote >= 0
        chosen = rows[cast], vote[cast]
        counts[chosen] += 1
        is_new = cast & (counts[rows, np.maximum(vote, 0)] == 1)
        at_first[rows[is_new], vote[is_new]] = counts[is_new]
        numbers[rows[is_new], vote[is_new]] = numbers[is_new].max(1, initial=0) + 1
        # Of equal counts the answer that occurred first leads.
        leader = (counts * (num_classes + 1) - numbers).argmax(1)
        since = counts - at_first[rows, leader]
        leading = since[rows, leader].copy()
        since[rows, leader] = 0
        missing.append(table[numbers[rows, leader], leading, since.max(1)])
    return np.array(missing).T


def _mode_table(rule: ModeTest, num_classes: int, limit: int) -> Counts:
    """Votes that are missing, by the leading answer's number and the votes since its first."""
    return np.array([_mode_rows(rule, number, limit) for number in range(num_classes + 1)])


@lru_cache(maxsize=4096)
def _mode_rows(rule: ModeTest, number: int, limit: int) -> Counts:
    """The rows of one number; 0 without any vote."""
    rows = np.full((limit + 1, limit + 1), limit)
    if number == 0:
        rows[0, 0] = num_missing(rule, [], limit)
        return rows
    earlier = [("earlier", index) for index in range(number - 1)]
    for leading in range(limit):
        for rival in range(min(leading + 1, limit - leading) + 1):
            votes = [*earlier, "leading", *["leading"] * leading, *["rival"] * rival]
            rows[leading, rival] = num_missing(rule, votes, limit)
    return rows
