"""When a search has found enough: rules that are asked before every round.

A rule sees the tree and the finished sequences with their texts, in the order of opening. Each
object belongs to one search.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np

from eager_sgl.budget.reallocation import Verifier
from eager_sgl.callbacks import PlugIn
from eager_sgl.core import Sequence
from eager_sgl.search.frontier import candidates
from eager_sgl.tree import TokenTree

__all__ = [
    "Classes",
    "Consensus",
    "Solved",
    "Stop",
    "Unexplored",
    "majority_confidence",
    "unexplored_mass",
]

Stop = Callable[[TokenTree, Items[Sequence]], bool]
"""Whether the finished sequences are enough; a rule that only looks on may say nothing."""

Classes = Callable[[Items[Sequence]], Items[Hashable | None]]
"""One class of equivalent answers per sequence; None without an answer."""


def classes_of(classes: Classes) -> PlugIn:
    """Checked.

    Raises:
        ValueError: it does not take sequences.
    """
    return PlugIn("classes", classes, ("sequences",))


def majority_confidence(most: int, second: int) -> float:
    """P(X > 1/2) for X ~ Beta(most + 1, second + 1): that the first answer is the likelier one.

    Args:
        most: votes of the most frequent answer.
        second: votes of the next.
    """
    number = most + second + 1
    return sum(math.comb(number, k) for k in range(most + 1)) / (1 << number)


@dataclass(frozen=True)
class Consensus:
    """The majority will stay: the Beta rule of Adaptive-Consistency (Aggarwal et al. 2023).

    It is meant for independent draws, which are those of "trie_parallel" alone; distinct paths are
    less sure to agree than draws are.

    Attributes:
        classes: says which sequences give the same answer.
        confidence: enough where `majority_confidence` is above it.
    """

    classes: Classes
    confidence: float = 0.95

    def __post_init__(self) -> None:
        classes_of(self.classes)

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        classes = classes_of(self.classes).classes(sequences)
        counts = Counter(each for each in classes if each is not None)
        most, second = (*sorted(counts.values(), reverse=True), 0, 0)[:2]
        return majority_confidence(most, second) > self.confidence


@dataclass(frozen=True)
class Unexplored:
    """Little is left to be found.

    Attributes:
        below: enough where `unexplored_mass` is smaller.
    """

    below: float

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        return unexplored_mass(tree) < self.below


def unexplored_mass(tree: TokenTree) -> float:
    """Probability under the model itself of all paths that leave the tree at a stored step.

    With that of the paths that are there it adds up to 1, steps that are not stored counting as
    certain: what they might have been is not known.
    """
    return float(np.exp(candidates(tree).joint_logprobs).sum())


@dataclass
class Solved:
    """A verifier accepts one of the sequences; each is shown to it once.

    Attributes:
        verifier: by a label, a test suite, a reward model.
    """

    verifier: Verifier
    _num_seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._plug_in = PlugIn("verifier", self.verifier, ("sequence",))

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        new, self._num_seen = sequences[self._num_seen :], len(sequences)
        return any(map(self._plug_in.boolean, new))
