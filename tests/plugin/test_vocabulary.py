"""The gate's vocabulary: what a request may ask, and what strangers may try."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.plugin.vocabulary import COLUMNS, KEY, MAX_ID_LENGTH, MAX_TOP_K, Gate

gates = st.builds(
    Gate,
    top_k=st.integers(2, MAX_TOP_K),
    threshold=st.none() | st.floats(0, 100),
    temperature=st.floats(1e-3, 1e3),
    max_reports=st.none() | st.integers(0, 2**31),
    stored_below=st.none() | st.floats(0, 2),
    columns=st.lists(st.sampled_from(COLUMNS), unique=True).map(
        lambda names: tuple(name for name in COLUMNS if name in names)
    ),
    window=st.integers(1, 2**20),
    floor=st.none() | st.floats(0, 1e9),
    before=st.just(()),
    seed=st.none() | st.integers(0, 2**63 - 1),
    parent=st.none() | st.text(max_size=MAX_ID_LENGTH),
)


@given(gates)
def test_the_server_reads_what_the_client_writes(gate: Gate) -> None:
    assert Gate.parse(json.loads(json.dumps(gate.custom_params()))) == gate


@given(st.lists(st.floats(0, 1e6, width=32), max_size=7))
def test_confidences_before_a_request_are_sent_whole(before: list[float]) -> None:
    gate = Gate(window=8, floor=1.0, before=tuple(before))
    assert Gate.parse(json.loads(json.dumps(gate.custom_params()))) == gate


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5])
def test_a_gate_takes_no_confidence_that_is_not_known(value: float) -> None:
    with pytest.raises(ValueError, match="before has .*; confidences are finite, at least 0"):
        Gate(window=4, floor=1.0, before=(1.0, value))


def test_other_requests_ask_for_no_gate() -> None:
    for params in (None, {}, {"thinking_budget": 5}, "text", 3, [KEY]):
        assert Gate.parse(params) is None


ATTACKS: list[Any] = [
    {"top_k": 10**9},
    {"top_k": 1},
    {"top_k": 0},
    {"top_k": -20},
    {"top_k": 20.0},
    {"top_k": True},
    {"top_k": "20"},
    {"top_k": None},
    {"top_k": [20]},
    {"threshold": math.nan},
    {"threshold": math.inf},
    {"threshold": -1e-9},
    {"threshold": "1.5"},
    {"threshold": {"nats": 1}},
    {"before": [1.0]},
    {"before": "AAAA"},
    {"before": "AADAfw=="},
    {"before": "AACAvw=="},
    {"before": "AACAPwAAgD8=", "window": 2},
    {"temperature": 0},
    {"temperature": -1.0},
    {"temperature": 1e-300},
    {"temperature": math.inf},
    {"max_reports": -1},
    {"max_reports": 10**30},
    {"stored_below": math.nan},
    {"stored_below": 1e9},
    {"window": 0},
    {"window": 10**12},
    {"floor": math.nan},
    {"floor": -math.inf},
    {"seed": -1},
    {"seed": 2**63},
    {"seed": 0.5},
    {"max_reports": 10**400},
    {"parent": 7},
    {"parent": "x" * 1000},
    {"parent": ["eager-1"]},
    {"logprobs": 7},
    {"logprobs": [1]},
    {"entropies": "yes"},
    {"__class__": "x"},
    {"x" * 10_000: 1},
    {"threshold": "9" * 10_000},
    [],
    "threshold",
    7,
    None,
    True,
]


@pytest.mark.parametrize("asked", ATTACKS, ids=lambda asked: repr(asked)[:40])
def test_what_is_out_of_range_is_refused_by_name_in_a_line(asked: Any) -> None:
    with pytest.raises(ValueError, match="gate|custom_params") as refusal:
        Gate.parse({KEY: asked})
    assert len(str(refusal.value)) < 300


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="columns are logprobs, .* not 'hidden_states'"):
        Gate(columns=("hidden_states",))  # type: ignore[arg-type]
