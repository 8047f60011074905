"""A rule played on all orders of a prompt's samples: what it decides, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eager_sgl import ConsensusShare
from evals.laboratory.consensus import Tally, leading_votes, missing_of_share, tallies_of
from evals.laboratory.costs import timed, unique_tokens
from evals.laboratory.cutting import Cuts, cut, filtered
from evals.laboratory.draws import Draws
from evals.laboratory.rules import Rule
from evals.laboratory.starting import missing_votes, samples_to_start
from evals.laboratory.weighing import Outweighing, outweighing, weights_of, winners

__all__ = ["Played", "cuts_of", "missing_of", "play", "right", "to_start_of", "winners_after"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Played:
    """The outcome of a rule in each of R orders.

    Attributes:
        winners: classes of answers, negative without a vote.
        num_votes: samples that counted, those without an answer included.
        num_started: samples that cost tokens.
        num_cut: of those, the ones that were cut.
        tokens: that the samples cost together.
        steps: until the decision, if all samples that run decode a token in each.
    """

    winners: Counts
    num_votes: Counts
    num_started: Counts
    num_cut: Counts
    tokens: Counts
    steps: Counts


def play(rule: Rule, draws: Draws, floor: float | None = None) -> Played:
    """Play a rule without a budget that prompts share.

    Args:
        floor: of a calibrated cutting, in nats.
    """
    cuts = cuts_of(rule, draws, floor)
    missing = missing_of(rule, draws, cuts)
    to_start = to_start_of(rule, draws, cuts, missing)
    ends = _outweighing(rule, draws).ends if rule.outweighed else None
    course = timed(
        missing, cuts.lengths, to_start=to_start, num_warmups=cuts.num_warmups, ends=ends
    )
    tokens = unique_tokens(draws, course.tokens) if rule.shares else course.tokens
    counted = np.arange(draws.max_sequences) < course.num_votes[:, None]
    return Played(
        winners=winners_after(rule, draws, cuts, course.num_votes),
        num_votes=course.num_votes,
        num_started=(course.tokens > 0).sum(1),
        num_cut=(counted & cuts.is_cut).sum(1),
        tokens=tokens.sum(1),
        steps=course.steps,
    )


def cuts_of(rule: Rule, draws: Draws, floor: float | None) -> Cuts:
    """What the rule cuts or leaves out of the vote."""
    if rule.cutting is not None:
        cutting = replace(rule.cutting, fixed=floor) if rule.is_calibrated else rule.cutting
        return draws.once(cutting, lambda: cut(draws, cutting))
    nothing = np.zeros(draws.order.shape, np.bool_)
    return Cuts(draws.lengths, nothing, nothing, 0)


def missing_of(rule: Rule, draws: Draws, cuts: Cuts) -> Counts:
    """Votes that are missing: those below the floor count until it is known."""

    if isinstance(rule.start, ConsensusShare):
        missing = missing_of_share(rule.start, _tallies(rule, draws, cuts))
        return missing if rule.waves is None else rule.waves.asked(missing)

    def of(votes: Counts) -> Counts:
        assert not isinstance(rule.start, ConsensusShare), f"{rule.text} decides by weights"
        return missing_votes(rule.start, votes, rule.waves)

    before = draws.once((rule.start, rule.waves), lambda: of(draws.votes))
    if not cuts.is_below.any():
        return before
    votes = np.where(cuts.is_below, -1, draws.votes)
    after = draws.once((rule.start, rule.waves, id(cuts)), lambda: of(votes))
    is_before = np.arange(draws.max_sequences + 1) < cuts.num_warmups
    return np.where(is_before, before, after)


def to_start_of(rule: Rule, draws: Draws, cuts: Cuts, missing: Counts) -> Counts:
    """Further samples that run; a rule of counts sees neither weights nor filters."""
    if not rule.ahead:
        return missing
    by_weights = isinstance(rule.start, ConsensusShare)
    counted = rule if by_weights else replace(rule, weights=None, filter=None)
    return samples_to_start(missing, leading_votes(_tallies(counted, draws, cuts)), rule.ahead)


def _tallies(rule: Rule, draws: Draws, cuts: Cuts) -> list[Tally]:
    """The votes after 0 … M samples, which rules with other numbers have too."""

    def tallies() -> list[Tally]:
        def voters(number: int) -> NDArray[np.bool_]:
            return _voters(rule, draws, cuts, number)

        return tallies_of(draws, rule.weights, voters, _weightless(rule, draws))

    key = ("tallies", id(cuts.lengths), rule.weights, rule.filter, rule.outweighed)
    return draws.once(key, tallies)


def _outweighing(rule: Rule, draws: Draws) -> Outweighing:
    key = "outweighing", rule.outweighed
    return draws.once(key, lambda: outweighing(draws, rule.outweighed))


def _weightless(rule: Rule, draws: Draws) -> NDArray[np.bool_]:
    """The samples whose votes count, and weigh nothing [R, M]."""
    nothing = np.zeros(draws.order.shape, np.bool_)
    return _outweighing(rule, draws).is_out if rule.outweighed else nothing


def winners_after(rule: Rule, draws: Draws, cuts: Cuts, num_votes: Counts) -> Counts:
    """The winners of the first samples of each order."""
    voters = _voters(rule, draws, cuts, num_votes) & ~_weightless(rule, draws)
    return winners(draws, weights_of(draws, rule.weights, voters), voters)


def _voters(rule: Rule, draws: Draws, cuts: Cuts, num_ended: Counts | int) -> NDArray[np.bool_]:
    """The samples that vote, of the first ones of each order [R, M]."""
    num_votes = np.broadcast_to(num_ended, len(draws.order))
    counted = np.arange(draws.max_sequences) < num_votes[:, None]
    has_floor = (num_votes >= cuts.num_warmups)[:, None]
    voters = counted & ~(cuts.is_below & has_floor)
    if rule.filter is not None:
        voters &= ~_filtered(rule, draws, num_votes)
    return np.asarray(voters & ((draws.votes >= 0) | _weightless(rule, draws)))


def right(draws: Draws, classes: Counts) -> NDArray[np.bool_]:
    """Whether classes of answers [R] are right; no vote is not."""
    return np.append(draws.samples.is_right, False)[classes]


def _filtered(rule: Rule, draws: Draws, num_votes: Counts) -> NDArray[np.bool_]:
    """Of the counted samples, those that the filter leaves out."""
    assert rule.filter is not None, f"{rule.text} has no filter"
    return filtered(draws, rule.filter.keep, rule.filter.window, num_votes)
