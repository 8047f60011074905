"""Votes: the number of sequences with each answer, their weights, and how certain that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from collections.abc import Sequence as Items
from typing import Protocol, TypeVar

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import Sequence, VoteOutcome

__all__ = [
    "Classes",
    "Weighted",
    "cast_votes",
    "checked_classes",
    "majority_confidence",
    "vote_confidence",
    "vote_outcome",
    "vote_totals",
    "vote_uncertainty",
    "vote_weights",
    "vote_winner",
]

Answer = TypeVar("Answer", bound=Hashable)

Classes = Callable[[Items[Sequence]], Items[Hashable | None]]
"""One class of equivalent answers per sequence; None without an answer."""

MAX_NATS = 10.0
"""Surprisal −ln p of the most likely sequence above which `vote_weights` tempers probabilities."""


class Weighted(Protocol):
    """A sequence whose vote weighs as much as its probability under the model."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All generated tokens."""

    @property
    def raw_logprob(self) -> float | None:
        """Of the whole sequence at temperature 1, in nats; None where it is not known."""


def checked_classes(classes: Classes) -> PlugIn:
    """The user's function, its results checked at every call.

    Raises:
        ValueError: it does not take sequences.
    """
    return PlugIn("classes", classes, ("sequences",))


def vote_totals(
    answers: Items[Answer | None], weights: Items[float] | None = None
) -> dict[Answer, float]:
    """Votes per answer, in the order in which the answers first occur.

    Args:
        answers: one per sequence, or its class; None does not vote.
        weights: one per sequence; None counts every sequence as 1.
    """
    totals: dict[Answer, float] = {}
    counted = [1] * len(answers) if weights is None else weights
    for answer, weight in zip(answers, counted, strict=True):
        if answer is not None:
            totals[answer] = totals.get(answer, 0) + weight
    return totals


def vote_winner(
    answers: Items[Answer | None], weights: Items[float] | None = None
) -> Answer | None:
    """The answer with the most votes (`vote_totals`); ties go to the one that occurs first.

    Returns:
        None if no sequence votes.
    """
    totals = vote_totals(answers, weights)
    return max(totals, key=totals.__getitem__, default=None)


def vote_weights(logprobs: Items[float]) -> list[float]:
    """Weights of sequences by their probability under the model; the most likely one has 1.

    They are proportional to the probabilities where the highest is at least exp(−10). Longer
    sequences differ by so many nats that one would outvote all others; so their probabilities are
    tempered to p^γ, with γ such that the highest becomes exp(−10). A weight then depends on the
    ratio of the sequence's surprisal to the lowest one.

    Args:
        logprobs: one per sequence, at temperature 1, in nats.
    """
    highest = max(logprobs)
    gamma = MAX_NATS / max(MAX_NATS, -highest)
    return [math.exp(gamma * (logprob - highest)) for logprob in logprobs]


def vote_outcome(
    sequences: Items[Sequence],
    answers: Items[Hashable | None],
    weights: Items[float] | None = None,
    cut: Items[bool] | None = None,
) -> VoteOutcome:
    """The outcome of a vote, in which sequences that were ended or cut do not vote.

    Args:
        sequences: in the order of opening.
        answers: of the sequences; None without any.
        weights: of the sequences; None for independent samples, which count as 1.
        cut: whether each sequence was cut; None where none was.
    """
    cut = [False] * len(sequences) if cut is None else cut
    cast = cast_votes(sequences, answers, cut)
    votes, answer = vote_totals(cast, weights), vote_winner(cast, weights)
    voters = [index for index, given in enumerate(cast) if given == answer]
    strongest = max(voters, key=lambda index: _strength(sequences[index]), default=None)
    counts = any(cut) and [float(given is not None) for given in cast]
    return VoteOutcome(
        answer=answer,
        votes=votes,
        confidence=None if weights is not None else vote_confidence(votes),
        sequence=strongest,
        weights=tuple(weights or counts or ()),
        num_cut=sum(cut),
        cut_votes=vote_totals(_whole_answers(sequences, answers, cut)),
    )


def _whole_answers(
    sequences: Items[Sequence], answers: Items[Answer | None], cut: Items[bool]
) -> list[Answer | None]:
    """The answers of sequences that were cut, and had run to their ends."""
    triples = zip(sequences, answers, cut, strict=True)
    return [given for s, given, is_cut in triples if is_cut and s.finish_reason != "cut"]


def cast_votes(
    sequences: Items[Sequence], answers: Items[Answer | None], cut: Items[bool]
) -> list[Answer | None]:
    """The answers of sequences, None of those that were ended or cut."""
    ended = [s.finish_reason == "abort" or is_cut for s, is_cut in zip(sequences, cut, strict=True)]
    return [None if end else given for end, given in zip(ended, answers, strict=True)]


def vote_confidence(votes: Mapping[Answer, float]) -> float:
    """`majority_confidence` of the first two answers, of votes that count as 1."""
    leading, second = (*sorted(map(int, votes.values()), reverse=True), 0, 0)[:2]
    return majority_confidence(leading, second)


def _strength(sequence: Sequence) -> tuple[bool, float]:
    logprob = sequence.raw_logprob
    return sequence.finish_reason == "stop", -math.inf if logprob is None else logprob


def vote_uncertainty(sequences: Items[Weighted], classes: Items[Hashable | None]) -> float:
    """How far the sequences are from one answer: 1 − s + 1 / (n + 1), in (0, 1).

    s is the share of the votes for the leading answer. Each of the n sequences votes with its
    weight (`vote_weights`), repeated ones once; where a probability is not known, all weigh the
    same. The last term remains where all n sequences agree.

    Args:
        sequences: at least one.
        classes: one class of equivalent answers per sequence; None agrees with no other sequence.
    """
    known = [sequence.raw_logprob for sequence in sequences if sequence.raw_logprob is not None]
    if len(known) == len(sequences):
        weights = vote_weights(known)
        keys: list[Hashable] = [sequence.token_ids for sequence in sequences]
    else:
        weights, keys = [1.0] * len(sequences), list(range(len(sequences)))
    distinct = {key: index for index, key in enumerate(keys)}.values()
    totals = vote_totals(
        [("none", i) if classes[i] is None else ("answer", classes[i]) for i in distinct],
        [weights[i] for i in distinct],
    )
    return 1 - max(totals.values()) / sum(totals.values()) + 1 / (len(sequences) + 1)


def majority_confidence(leading: int, second: int) -> float:
    """P(X > 1/2) for X ~ Beta(leading + 1, second + 1): the leading answer is the likelier one.

    Args:
        leading: votes of the most frequent answer.
        second: votes of the second most frequent one.
    """
    number = leading + second + 1
    return sum(math.comb(number, k) for k in range(leading + 1)) / (1 << number)
