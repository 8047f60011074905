"""Priorities: their formulas, and how a name or import path leads to one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eager_sgl.search.frontier import candidates
from eager_sgl.search.priorities import PRIORITIES, find_priority
from tests.fakes.trees import random_tree


@pytest.mark.parametrize("name", PRIORITIES)
def test_a_priority_values_every_candidate(name: str) -> None:
    priority = find_priority(name)
    for seed in range(4):
        frontier = candidates(random_tree(seed), priority.reshaping)
        values = priority(frontier)
        assert values.shape == (len(frontier),)
        assert not np.isnan(values).any()


def test_priorities_follow_their_formulas() -> None:
    tree = random_tree(7, num_branches=2)
    plain = candidates(tree)
    early = PRIORITIES["early_peaks"](plain)
    first_seen = set()
    for index in range(len(plain)):
        step = (plain.segments[index], plain.positions[index])
        is_first, likely = step not in first_seen, plain.probabilities[index] >= 0.02
        first_seen.add(step)
        formula = math.log(plain.entropies[index]) - plain.positions[index] / 40
        expected = formula if is_first and likely else -math.inf
        assert early[index] == pytest.approx(expected)
    joint = PRIORITIES["joint_cost"](plain)
    assert joint == pytest.approx(plain.joint_logprobs - np.log(plain.remaining))
    likely = plain.probabilities >= 0.02
    entropy = PRIORITIES["entropy"](plain)
    assert entropy[likely] == pytest.approx(plain.entropies[likely])
    assert np.isneginf(entropy[~likely]).all()


def test_a_priority_by_import_path() -> None:
    frontier: object = find_priority("eager_sgl.search.priorities:PRIORITIES")
    assert frontier is PRIORITIES
    for name in ("magic", "no.such:thing", "eager_sgl.search.priorities:nothing"):
        with pytest.raises(ValueError, match=f"unknown priority '{name}'; choose from early_peaks"):
            find_priority(name)
