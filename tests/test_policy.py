"""The entropy policy: flat steps branch, peaked ones do not, with the right evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eager_sgl.core import TopLogprobs
from eager_sgl.policy import EntropyThreshold

PEAKED = [0.97, 0.01, 0.01, 0.01]
FLAT = [0.4, 0.3, 0.2, 0.1]


def chunk(*steps: Any, temperature: float = 1.0) -> Any:
    tempered = np.array(steps) ** (1 / temperature)
    logprobs = np.log(tempered / tempered.sum(-1, keepdims=True)).astype(np.float32)
    ids = np.tile(np.array([7, 5, 3, 1], np.int32), (len(steps), 1))
    return TopLogprobs(ids, logprobs, temperature)


def test_only_flat_steps_branch_and_positions_count_from_the_start() -> None:
    signals = EntropyThreshold(1.0)(chunk(PEAKED, FLAT, PEAKED, FLAT), [7, 3, 7, 5], start=100)
    points = signals.branch_points
    assert [e >= 1.0 for e in signals.entropies] == [False, True, False, True]
    assert [p.position for p in points] == [101, 103]
    assert [p.sampled for p in points] == [3, 5]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_the_evidence_does_not_depend_on_the_temperature_of_the_logprobs(
    temperature: float,
) -> None:
    signals = EntropyThreshold(1.0)(chunk(FLAT, temperature=temperature), [7], start=0)
    (point,) = signals.branch_points
    assert point.token_ids == (7, 5)
    assert point.probabilities == pytest.approx((0.4, 0.3))
    assert point.entropy == pytest.approx(-sum(p * np.log(p) for p in FLAT))


def test_the_temperature_of_the_entropy_changes_the_decision() -> None:
    assert EntropyThreshold(1.2, temperature=1.0)(chunk(FLAT), [7], 0).branch_points
    assert not EntropyThreshold(1.2, temperature=0.5)(chunk(FLAT), [7], 0).branch_points


def test_the_threshold_itself_branches() -> None:
    uniform = chunk([0.25] * 4)
    (point,) = EntropyThreshold(1.0)(uniform, [7], 0).branch_points
    assert EntropyThreshold(point.entropy)(uniform, [7], 0).branch_points
    assert not EntropyThreshold(point.entropy + 1e-9)(uniform, [7], 0).branch_points
