"""What one more round of a prompt is worth: rules that searches which share tokens bid by.

A rule sees the tree and the finished sequences with their texts, in the order of opening, before
every round. Bids are compared across prompts, so values have to mean the same for all of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

from eager_sgl.core import Sequence
from eager_sgl.search.frontier import candidates
from eager_sgl.search.priorities import Priority
from eager_sgl.search.stopping import Classes, classes_of
from eager_sgl.tree import TokenTree

__all__ = [
    "BestEntry",
    "Utility",
    "VoteUncertainty",
    "Weighted",
    "vote_uncertainty",
    "vote_weights",
]

Utility = Callable[[TokenTree, Items[Sequence]], float]
"""The value of a prompt's next round; the highest of all prompts goes on."""


class Weighted(Protocol):
    """A sequence that weighs as much as the model thinks it likely."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All of them, after the prompt."""

    @property
    def raw_logprob(self) -> float | None:
        """Of the whole sequence at temperature 1; None where that is not known."""


MAX_NATS = 10.0
"""Surprise of the most likely sequence, −ln p, above which probabilities are flattened to it."""


def vote_weights(logprobs: Items[float]) -> list[float]:
    """Weights of sequences by the model's own probability of each; the most likely one has 1.

    They are in proportion to the probabilities where the most likely one has at least exp(−10).
    Longer ones differ by so many nats that one would outvote all others; so their probabilities are
    flattened to p^γ, by which the most likely has exp(−10): then what counts is by which factor a
    sequence is more surprising than the least surprising one.
    """
    highest = max(logprobs)
    gamma = MAX_NATS / max(MAX_NATS, -highest)
    return [math.exp(gamma * (logprob - highest)) for logprob in logprobs]


def vote_uncertainty(sequences: Items[Weighted], classes: Items[Hashable | None]) -> float:
    """How far the sequences are from one answer: 1 − s + 1 / (n + 1), in (0, 1).

    s is the part of the votes that the strongest answer has, where each of the n sequences has its
    weight (`vote_weights`), and the same sequence counts once; where probabilities are not known,
    all sequences weigh the same. That n sequences agree leaves 1 / (n + 1).

    Args:
        sequences: one at least.
        classes: one of equivalent answers per sequence; None agrees with nothing.
    """
    known = [one.raw_logprob for one in sequences if one.raw_logprob is not None]
    if len(known) == len(sequences):
        weights = vote_weights(known)
        keys: list[Hashable] = [one.token_ids for one in sequences]
    else:
        weights, keys = [1.0] * len(sequences), list(range(len(sequences)))
    distinct = {key: place for place, key in enumerate(keys)}
    votes: dict[Hashable, float] = defaultdict(float)
    for place in distinct.values():
        answer = classes[place]
        votes[("none", place) if answer is None else ("answer", answer)] += weights[place]
    return 1 - max(votes.values()) / sum(votes.values()) + 1 / (len(sequences) + 1)


@dataclass(frozen=True)
class VoteUncertainty:
    """ln(doubt / n): where the answer is in doubt, and few sequences have been spent on it.

    That the answer has not been found yet is taken to be as likely as the sequences disagree, and
    that the next one is the first to bring it as likely as 1 / n. No labels are needed.

    Attributes:
        classes: says which sequences give the same answer.
    """

    classes: Classes

    def __post_init__(self) -> None:
        classes_of(self.classes)

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        classes = classes_of(self.classes).classes(sequences)
        return math.log(vote_uncertainty(sequences, classes) / len(sequences))


@dataclass(frozen=True)
class BestEntry:
    """The best value of the frontier under a priority whose values mean the same for all prompts.

    Those of "joint_cost" and "flat_joint_cost" do: new probability per token, as a logarithm.
    """

    priority: Priority

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        values = self.priority(candidates(tree, self.priority.reshaping))
        return float(values.max(initial=-math.inf))
