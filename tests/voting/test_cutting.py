"""Group confidences by hand and against the gate's, and floors as the rank of a share."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.plugin.confidence import RunningConfidence
from eager_sgl.voting.cutting import (
    Cutting,
    group_confidences,
    is_below,
    lowest_group_confidence,
    top_share_floor,
)

NATS = st.floats(0, 20, allow_nan=False)
SOME = st.lists(NATS, min_size=1, max_size=40)


def by_definition(confidences: list[float], window: int) -> list[float]:
    groups = range(len(confidences) - window + 1)
    return [sum(confidences[start : start + window]) / window for start in groups]


@given(SOME, st.integers(1, 45))
def test_group_confidences_are_means_over_the_window(values: list[float], window: int) -> None:
    expected = by_definition(values, window)
    assert group_confidences(values, window).tolist() == pytest.approx(expected, abs=1e-9)
    lowest = min(expected, default=sum(values) / len(values))
    assert lowest_group_confidence(values, window) == pytest.approx(lowest, abs=1e-9)


@given(SOME, st.integers(1, 45), NATS)
def test_a_sequence_is_cut_where_the_gate_would_end_it(
    values: list[float], window: int, floor: float
) -> None:
    running = RunningConfidence(window, floor)
    for index, value in enumerate(values):
        running.add(index, value)
    assert is_below(values, window, floor) == (running.first_below(len(values) - 1) is not None)


def test_steps_without_a_confidence_end_nothing_and_are_forgotten() -> None:
    """As of a step that was not read on any rank."""
    running = RunningConfidence(2, 1.0)
    for index, value in enumerate([0.1, math.inf, 0.1]):
        running.add(index, value)
    assert running.first_below(2) is None
    running.add(3, 0.1)
    ended = running.first_below(3)
    assert ended is not None
    assert ended[0] == 3


@pytest.mark.parametrize("confidences", [[], [1.0, math.nan, 2.0]])
def test_a_confidence_that_is_not_known_is_an_error(confidences: list[float]) -> None:
    with pytest.raises(ValueError, match="not known"):
        lowest_group_confidence(confidences, 2)


@given(SOME, st.floats(0.01, 1))
def test_a_floor_is_the_highest_that_the_share_reaches(lowest: list[float], keep: float) -> None:
    floor, least = top_share_floor(lowest, keep), keep * len(lowest) - 1e-6
    assert sum(value >= floor for value in lowest) >= least
    above = [value for value in lowest if value > floor]
    assert len(above) < max(1.0, keep * len(lowest))


def test_deepconf_low_and_high() -> None:
    lowest = [float(value) for value in range(1, 21)]
    assert Cutting(keep=0.1, warmup=20).floor(lowest) == pytest.approx(19, rel=2e-3)
    assert Cutting(keep=0.9, warmup=20).floor(lowest) == pytest.approx(3, rel=2e-3)


def test_the_floor_is_that_of_the_first_sequences() -> None:
    cutting = Cutting(window=3, keep=0.5, warmup=4)
    assert cutting.floor([5.0, 1.0, 4.0]) is None
    floor = cutting.floor([5.0, 1.0, 4.0, 3.0])
    assert floor == cutting.floor([5.0, 1.0, 4.0, 3.0, 9.0, 9.0]) == pytest.approx(4.0, rel=2e-3)
    assert not cutting.is_cut([4.0 - 1e-4] * 3, floor), "it repeats a sequence that reaches it"
    assert not cutting.is_cut([0.0] * 9, None)


def test_steps_from_the_first_unknown_one_on_do_not_count() -> None:
    """Such as those of the probe that ended a sequence."""
    cutting, probed = Cutting(window=2, fixed=1.0), [3.0, 2.0, math.nan, 0.0, 0.0]
    assert cutting.lowest(probed) == 2.5
    assert not cutting.is_cut(probed, 2.4)
    assert cutting.is_cut(probed, 2.6)


def test_a_fixed_floor_needs_no_first_sequences() -> None:
    cutting = Cutting(window=2, fixed=1.5)
    assert (cutting.num_warmups, cutting.floor([])) == (0, 1.5)
    assert cutting.is_cut([2.0, 0.5], 1.5)
    assert not cutting.is_cut([0.5], 1.5)


@pytest.mark.parametrize(
    "fields", [{"window": 0}, {"keep": 0.0}, {"keep": 1.1}, {"warmup": 0}, {"fixed": math.nan}]
)
def test_impossible_cuttings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Cutting(**fields)
