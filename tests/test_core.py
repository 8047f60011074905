"""Configurations, valid and invalid, and the arithmetic of counts."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    SamplingConfig,
    SearchConfig,
    TokenCounts,
    TrieParallel,
    WithoutReplacement,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": math.log(20) + 1e-9}, "in (0, ln 20 = 2.9957]"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"threshold": 1.0, "max_sequences": 0}, "max_sequences is 0"),
        ({"threshold": 0.5, "top_k": 1}, "top_k is 1"),
        ({"threshold": 1.0, "entropy_temperature": 0}, "entropy_temperature is 0"),
        ({"threshold": 1.0, "patience": 0}, "patience is 0"),
        ({"threshold": 1.0, "chunk_tokens": 0}, "chunk_tokens is 0"),
        ({"threshold": "1"}, "threshold is 1"),
        ({"threshold": 1.0, "top_k": 20.5}, "top_k is 20.5"),
        ({"threshold": 1.0, "top_k": math.inf}, "top_k is inf"),
        ({"threshold": 1.0, "max_sequences": 2.0}, "max_sequences is 2.0"),
        ({"threshold": 1.0, "chunk_tokens": math.nan}, "chunk_tokens is nan"),
        ({"threshold": 1.0, "entropy_temperature": math.nan}, "entropy_temperature is nan"),
        ({"threshold": 1.0, "deferred_threshold": math.nan}, "deferred_threshold is nan"),
        ({"threshold": 1.0, "reasoning_end": ""}, "reasoning_end is ''"),
        ({"threshold": 1.0, "deferred_threshold": 1.1}, "None or in (0, threshold = 1]"),
    ],
)
def test_a_wrong_configuration_names_the_value_and_the_allowed_ones(
    arguments: Any, message: str
) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        EagerConfig(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": 1e-9},
        {"temperature": "0.6"},
        {"temperature": True},
        {"top_p": 0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"top_p": None},
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"max_new_tokens": math.inf},
        {"max_new_tokens": True},
        {"stop_token_ids": (-1,)},
        {"stop_token_ids": (1.0,)},
        {"stop_token_ids": (True,)},
        {"stop_token_ids": [3]},
        {"stop_token_ids": b"ab"},
        {"stop_token_ids": 3},
    ],
)
def test_wrong_sampling_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SamplingConfig(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"top_k": 1},
        {"top_k": 5.0},
        {"max_sequences": 0},
        {"width": math.nan},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
    ],
)
def test_a_wrong_search_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is .*; it must be"):
        SearchConfig(**arguments)


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
@pytest.mark.parametrize(
    "kind",
    [
        partial(FullParallel, SamplingConfig(), 4),
        partial(EagerInit, EagerConfig(threshold=1.0)),
        *(partial(kind, SearchConfig()) for kind in (BestFirst, TrieParallel, WithoutReplacement)),
    ],
    ids=lambda kind: kind.func.__name__,
)
def test_a_wrong_seed_is_refused(kind: Any, seed: int) -> None:
    with pytest.raises(ValueError, match="seed is .*; it must be"):
        kind(seed=seed)


def test_the_largest_possible_threshold_is_allowed() -> None:
    assert EagerConfig(threshold=math.log(20)).threshold == math.log(20)


def test_counts_add_up_field_by_field() -> None:
    counts = TokenCounts(
        generated=10, unique=9, naive=20, forced=2, prompt=30, cached=25, requests=3
    )
    both = counts + counts
    assert (counts.discarded, counts.prefilled) == (3, 5)
    assert (both.discarded, both.prefilled, both.requests) == (6, 10, 6)
