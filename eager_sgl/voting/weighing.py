"""Weights of votes: by probability under the model, by confidence, by the score of another model.

A rule takes the finished sequences of a prompt and returns a weight of at least 0 for each. The
weights of all are computed again with every sequence, so they may be relative to those of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from typing import Literal, TypeVar, get_args

import numpy as np

from eager_sgl.callbacks import PlugIn
from eager_sgl.config import require, require_whole
from eager_sgl.core import Sequence
from eager_sgl.errors import PlugInError
from eager_sgl.voting.cutting import Confident, lowest_group_confidence, until_unknown
from eager_sgl.voting.once import OncePerSequence
from eager_sgl.voting.votes import Weighted, vote_weights

__all__ = [
    "ConfidenceKind",
    "Weigh",
    "by_confidence",
    "by_count",
    "by_probability",
    "by_score",
    "checked_weigh",
    "weights_of",
]

Weigh = Callable[[Items[Sequence]], Items[float]]
"""One weight per sequence, at least 0."""

_T = TypeVar("_T")

ConfidenceKind = Literal["mean", "tail", "lowest"]


def weights_of(
    items: Items[_T], votes: Items[Hashable | None], weigh: Callable[[Items[_T]], Items[float]]
) -> list[float]:
    """The weights of votes, 0 of items that do not vote, which are not weighed.

    Args:
        items: sequences, or what stands for them.
        votes: of the items.
        weigh: some items -> their weights; not called without votes.
    """
    weights = [0.0] * len(votes)
    voters = [index for index, vote in enumerate(votes) if vote is not None]
    if voters:
        known = weigh([items[index] for index in voters])
        for index, weight in zip(voters, known, strict=True):
            weights[index] = float(weight)
    return weights


def checked_weigh(weigh: Weigh) -> Callable[[Items[Sequence]], list[float]]:
    """The user's function, its weights checked at every call.

    Raises:
        PlugInError: it does not take sequences; when called, it returns other than weights.
    """
    plug_in = PlugIn("weigh", weigh, ("sequences",))

    def checked(sequences: Items[Sequence]) -> list[float]:
        weights: list[float] = plug_in.values(len(sequences), sequences).tolist()
        if wrong := [weight for weight in weights if not 0 <= weight < math.inf]:
            raise PlugInError(f"{plug_in} returned {wrong[0]:g}; weights are finite, at least 0")
        return weights

    return checked


def by_count(sequences: Items[object]) -> list[float]:
    """Every vote is 1."""
    return [1.0] * len(sequences)


def by_probability(sequences: Items[Weighted]) -> list[float]:
    """A vote is the sequence's probability under the model, flattened by `vote_weights`.

    The first of several sequences with the same tokens alone votes: since independent samples
    repeat a sequence in proportion to its probability, it would weigh as the square otherwise.

    Raises:
        ValueError: the probability of a sequence is not known.
    """
    if not sequences:
        return []
    known = [s.raw_logprob for s in sequences if s.raw_logprob is not None]
    if len(known) < len(sequences):
        raise ValueError(
            "a sequence has no raw_logprob, so that its vote has no weight by probability; use a "
            "method that observes steps, such as Vote with shares=True"
        )
    weights = vote_weights(known)
    first = {s.token_ids: index for index, s in reversed(list(enumerate(sequences)))}
    kept = set(first.values())
    return [weight if index in kept else 0.0 for index, weight in enumerate(weights)]


def by_confidence(
    kind: ConfidenceKind = "mean", window: int = 2048
) -> Callable[[Items[Confident]], list[float]]:
    """A vote is a confidence of the sequence, in nats (DeepConf, arXiv 2508.15260).

    Args:
        kind: "mean" over all steps; "tail" over the last `window` steps; "lowest" of the means over
            `window` steps in a row (`lowest_group_confidence`).
        window: in steps; a sequence that is shorter has its mean. Steps from the first one on whose
            confidence is not known do not count.

    Raises:
        ValueError: an argument is none of these; when called, a sequence has no confidences.
    """
    kinds = get_args(ConfidenceKind)
    require(kind in kinds, "kind", repr(kind), f"one of {', '.join(kinds)}")
    require_whole("window", window, 1)
    measure = {"mean": _mean, "tail": _tail, "lowest": lowest_group_confidence}[kind]
    return lambda sequences: [measure(until_unknown(s.confidences), window) for s in sequences]


def _mean(confidences: Items[float], window: int) -> float:
    return lowest_group_confidence(confidences, max(1, len(confidences)))


def _tail(confidences: Items[float], window: int) -> float:
    return _mean(confidences[-window:], window)


def by_score(
    score: Callable[[Sequence], float], temperature: float | None = None
) -> Callable[[Items[Sequence]], list[float]]:
    """A vote is a score of the sequence: of a verifier (0 or 1), or of a reward model.

    A sequence is scored once, and again where a partial result has it with another parent.

    Args:
        score: at least 0 without a temperature.
        temperature: T of weights exp(score / T), relative to the highest score, for scores of any
            sign; None for scores that are weights.

    Raises:
        ValueError: the temperature is not above 0; when called, a score is negative.
        PlugInError: `score` does not take a sequence; when called, it returns no finite number,
            True or False.
    """
    if temperature is not None:
        require(0 < temperature < math.inf, "temperature", temperature, "a number above 0")
    scored = OncePerSequence(PlugIn("score", score, ("sequence",)).score)

    def weigh(sequences: Items[Sequence]) -> list[float]:
        values = np.array([scored(sequence) for sequence in sequences])
        if temperature is not None and len(values):
            values = np.exp((values - values.max()) / temperature)
        elif (values < 0).any():
            raise ValueError(
                f"a score is {values.min():g}, and weights are at least 0; pass a temperature"
            )
        weights: list[float] = values.tolist()
        return weights

    return weigh
