"""The form of the reports: what is packed is unpacked, and what is not whole is refused."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.plugin.blocks import pack_cut, pack_fault, pack_steps, pack_tokens, unpack
from eager_sgl.plugin.vocabulary import COLUMNS, Column


@given(
    sizes=st.lists(st.integers(0, 5), max_size=4),
    top_k=st.integers(2, 7),
    names=st.sets(st.sampled_from(COLUMNS), min_size=1),
    seed=st.integers(0, 99),
)
def test_blocks_hold_what_was_packed(
    sizes: list[int], top_k: int, names: set[Column], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    ids = rng.integers(0, 150_000, (total, top_k)).astype(np.int32)
    logprobs = -rng.exponential(size=(total, top_k)).astype(np.float32)
    columns = {name: rng.normal(size=total).astype(np.float32) for name in names}
    blocks: list[object] = [None]
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        if size:
            blocks.append(pack_tokens(start, {n: v[part] for n, v in columns.items()}))
            blocks.append(pack_steps(range(start, start + size), ids[part], logprobs[part]))
        blocks.append(None)
        start += size
    reports = unpack(blocks, top_k)
    assert reports.indices.tolist() == list(range(total))
    np.testing.assert_array_equal(reports.token_ids, ids)
    np.testing.assert_array_equal(reports.logprobs, logprobs)
    for name, values in columns.items():
        np.testing.assert_array_equal(reports.columns.get(name, np.empty(0)), values)
    assert reports.cut is None
    assert reports.fault is None


def test_a_cut_and_a_fault_are_reported() -> None:
    reports = unpack([pack_cut(7, 0.5), pack_fault("π is off")], 20)
    assert reports.cut == (7, 0.5)
    assert reports.fault == "π is off"
    assert reports.token_ids.shape == (0, 20)


STEPS = pack_steps([1], np.zeros((1, 3), np.int32), np.zeros((1, 3), np.float32))


def _changed(block: str, **bytes_at: int) -> str:
    content = bytearray(base64.b64decode(block))
    for place, value in bytes_at.items():
        content[int(place[1:])] = value
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "block",
    [
        7,
        [1, [2], [3.0]],
        "",
        "no base64!",
        "AAAA",
        STEPS[:-8],
        _changed(STEPS, _0=9),
        _changed(STEPS, _1=4),
        _changed(STEPS, _4=200),
        base64.b64encode(bytes([2, 0, 1, 0, 1, 0, 0, 0])).decode(),
        base64.b64encode(bytes([3, 0, 0, 0, 0, 0, 0, 0, 1])).decode(),
    ],
    ids=repr,
)
def test_a_malformed_block_is_refused(block: Any) -> None:
    with pytest.raises(ValueError, match="block"):
        unpack([block], 3)


def test_values_that_do_not_continue_are_refused() -> None:
    first = pack_tokens(0, {"logprobs": np.zeros(3, np.float32)})
    for later in (2, 4):
        with pytest.raises(ValueError, match=f"continue at {later}, after 3"):
            unpack([first, pack_tokens(later, {"logprobs": np.zeros(1, np.float32)})], 2)
