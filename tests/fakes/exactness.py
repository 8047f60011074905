"""The cases of the tests that draw many trees and compare them with the per-token method's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from scipy.stats import chisquare

from eager_sgl import EagerConfig, SamplingConfig
from tests.fakes.scripted import VOCABULARY

NUM_TREES = 400
ERROR_PROBABILITY = 1e-4  # of failing although the distributions are equal; draws are seeded

# Chosen among 80 models for their events: races for the last slot between sequences at
# different depths, the end of the reasoning before a branch, impatience, forced stop tokens.
CASES: dict[str, tuple[int, int, int]] = {
    "races": (42, 4, 1000),
    "few slots": (60, 3, 1000),
    "reasoning closes": (1, 4, 1000),
    "impatience": (37, 4, 2),
}
"""The model, M, and the patience."""

Tree = TypeVar("Tree", bound=Hashable)


def config_of_case(case: str, temperature: float, **monitor: Any) -> EagerConfig:
    _, max_sequences, patience = CASES[case]
    return EagerConfig(
        threshold=1.4,
        top_k=VOCABULARY,
        max_sequences=max_sequences,
        patience=patience,
        **monitor,
        sampling=SamplingConfig(temperature=temperature, top_p=0.8, max_new_tokens=6),
    )


def fit(seen: Counter[Tree], exact: Mapping[Tree, float]) -> float:
    """The probability of a fit as bad as this, if the trees are drawn from the exact distribution.

    Args:
        seen: how often each tree was drawn.
        exact: the probability of each tree.
    """
    if not set(seen) <= set(exact):
        return 0.0
    num_trees = seen.total()
    frequent = [tree for tree, probability in exact.items() if probability * num_trees >= 5]
    observed, expected = [seen[t] for t in frequent], [exact[t] * num_trees for t in frequent]
    observed.append(num_trees - sum(observed))
    expected.append(num_trees - sum(expected))
    return float(chisquare(observed, expected).pvalue)
