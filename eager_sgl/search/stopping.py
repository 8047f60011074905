"""Stop rules: whether the finished sequences of a search are enough, asked before every round.

A rule sees the tree and the finished sequences with their texts, in the order of opening. Each
object belongs to one search.

To add one: a callable here, and its name for `--stop` in `evals/config/stopping.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import Sequence, Verifier
from eager_sgl.search.frontier import candidates
from eager_sgl.tree import TokenTree
from eager_sgl.voting.deciding import BetaRule
from eager_sgl.voting.votes import Classes, checked_classes

__all__ = ["Consensus", "Solved", "Stop", "Unexplored", "unexplored_mass"]

Stop = Callable[[TokenTree, Items[Sequence]], bool]
"""Whether the finished sequences are enough; None counts as False."""


@dataclass(frozen=True)
class Consensus:
    """The majority is unlikely to change.

    This is the Beta rule of Adaptive-Consistency, asked between rounds; `Vote` asks it after every
    sample. It is derived for independent draws, which only "trie_parallel" makes; distinct paths
    agree less often.

    Attributes:
        classes: one class of equivalent answers per sequence.
        confidence: as of `BetaRule`.
    """

    classes: Classes
    confidence: float = 0.95

    def __post_init__(self) -> None:
        checked_classes(self.classes)

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        return BetaRule(self.confidence)(checked_classes(self.classes).classes(sequences))


@dataclass(frozen=True)
class Unexplored:
    """Little probability is left to explore.

    Attributes:
        below: `unexplored_mass` below which the search ends.
    """

    below: float

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        return unexplored_mass(tree) < self.below


def unexplored_mass(tree: TokenTree) -> float:
    """Probability at temperature 1 of all paths that leave the tree at a stored step.

    With the probability of the paths in the tree it adds up to 1. Steps that are not stored count
    as certain: their alternatives are not known.
    """
    return float(np.exp(candidates(tree).joint_logprobs).sum())


@dataclass
class Solved:
    """A verifier accepts one of the sequences; it is asked once per sequence.

    Attributes:
        verifier: a label, a test suite, or a reward model.
    """

    verifier: Verifier
    _num_seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._plug_in = PlugIn("verifier", self.verifier, ("sequence",))

    def __call__(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        new, self._num_seen = sequences[self._num_seen :], len(sequences)
        return any(map(self._plug_in.boolean, new))
