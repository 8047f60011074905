"""Branches of running requests: whose tokens are put into the radix tree, and whose are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from eager_sgl.plugin import parents
from eager_sgl.plugin.parents import publish_parent
from eager_sgl.plugin.vocabulary import Gate


class RadixCache:
    """The part of SGLang's cache that the plugin calls."""

    def __init__(self, *, mamba: bool = False, swa: bool = False) -> None:
        self._mamba, self._swa = mamba, swa
        self.lengths: list[int] = []

    def supports_mamba(self) -> bool:
        return self._mamba

    def supports_swa(self) -> bool:
        return self._swa

    def checkpoint(self, request: Any, *, up_to: int) -> None:
        self.lengths.append(up_to)


@pytest.fixture(autouse=True)
def _one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parents, "_num_stages", lambda: 1)


def published(
    cache: RadixCache, rid: str = "eager-1", mode: str = "NULL", **given: Any
) -> list[int]:
    """The lengths of the prefixes that a branch of the request `eager-1` puts into the cache."""
    plain = {"output_ids": [4, 5], "is_retracted": False, "skip_radix_cache_insert": False}
    parent = SimpleNamespace(
        rid=rid,
        origin_input_ids=[1, 2, 3],
        finished=lambda: False,
        refresh_fill_ids=lambda: None,
        kv=SimpleNamespace(req_pool_idx=0, kv_committed_len=5),
        **plain | given,
    )
    scheduler = SimpleNamespace(
        tree_cache=cache,
        disaggregation_mode=SimpleNamespace(name=mode),
        spec_algorithm=SimpleNamespace(is_none=lambda: True),
        running_batch=SimpleNamespace(reqs=[parent]),
        last_batch=None,
    )
    params = SimpleNamespace(custom_params=Gate(parent="eager-1").custom_params())
    publish_parent(scheduler, SimpleNamespace(rid="eager-2", sampling_params=params))
    return cache.lengths


def test_the_known_tokens_of_the_parent_are_put_there() -> None:
    assert published(RadixCache()) == [4]
    assert published(RadixCache(), 'eager-1?{"stream_interval":1}') == [4]


@pytest.mark.parametrize(
    "given",
    [
        {"rid": "eager-11"},
        {"output_ids": []},
        {"is_retracted": True},
        {"skip_radix_cache_insert": True},
    ],
)
def test_others_are_left_alone(given: Any) -> None:
    assert published(RadixCache(), **given) == []


def test_caches_of_states_and_windows_are_left_alone() -> None:
    """Their state is that of a later token than the last that is known."""
    assert published(RadixCache(mamba=True)) == []
    assert published(RadixCache(swa=True)) == []


def test_ranks_that_may_know_other_tokens_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert published(RadixCache(), mode="DECODE") == []
    monkeypatch.setattr(parents, "_num_stages", lambda: 2)
    assert published(RadixCache()) == []
