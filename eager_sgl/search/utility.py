"""Utilities: the value of a prompt's next round, by which searches bid for shared tokens.

A utility sees the tree and the finished sequences with their texts, in the order of opening, before
every round. Bids are compared across prompts, so a value has to mean the same for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

from eager_sgl.core import Sequence
from eager_sgl.search.frontier import Priority, candidates
from eager_sgl.tree import TokenTree
from eager_sgl.voting.votes import Classes, checked_classes, vote_uncertainty

__all__ = ["BestEntry", "Utility", "VoteUncertainty"]

Utility = Callable[[TokenTree, Items[Sequence]], float]
"""The value of a prompt's next round; the prompt with the highest value gets its round."""


@dataclass(frozen=True)
class VoteUncertainty:
    """ln(vote uncertainty / n): high where the n sequences disagree and few have been spent.

    The correct answer is taken to be missing with the probability with which the sequences
    disagree, and the next sequence to be the first correct one with probability 1 / n. No labels
    are needed.

    Attributes:
        classes: one class of equivalent answers per sequence.
    """

    classes: Classes

    def __post_init__(self) -> None:
        checked_classes(self.classes)

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        classes = checked_classes(self.classes).classes(sequences)
        return math.log(vote_uncertainty(sequences, classes) / len(sequences))


@dataclass(frozen=True)
class BestEntry:
    """The highest value of the frontier under a priority; −inf where the frontier is empty.

    The priority's values have to mean the same for all prompts. Those of "joint_cost" and
    "flat_joint_cost" do: the logarithm of new probability per token.

    Attributes:
        priority: values the candidates.
    """

    priority: Priority

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        values = self.priority(candidates(tree, self.priority.reshaping))
        return float(values.max(initial=-math.inf))
