"""Packed columns keep the values of a sequence's tokens within half a unit."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from eager_sgl import Sequence
from evals.records.columns import (
    PER_NAT,
    TokenColumns,
    columns_of,
    pack_columns,
    unpack_columns,
)


def drawn(number: int, seed: int = 0) -> TokenColumns:
    rng = np.random.default_rng(seed)
    return TokenColumns(
        rng.exponential(0.3, number), rng.uniform(0, 3, number), rng.gamma(9, 1, number)
    )


@pytest.mark.parametrize("number", [0, 1, 2, 700])
def test_values_are_kept_within_half_a_unit(number: int) -> None:
    columns = drawn(number)
    unpacked = unpack_columns(pack_columns(columns), number)
    for name in ("surprisals", "entropies", "confidences"):
        error = np.abs(getattr(unpacked, name) - getattr(columns, name))
        assert error.max(initial=0) <= 0.5 / PER_NAT
    assert pack_columns(unpacked) == pack_columns(columns)


def test_what_is_not_known_and_what_is_too_large_is_not_known() -> None:
    values = np.array([np.nan, np.inf, 64.0, 63.99, -1e-9])
    unpacked = unpack_columns(pack_columns(TokenColumns(values, values, values)), 5)
    assert np.isnan(unpacked.confidences[:3]).all()
    assert unpacked.confidences[3:] == pytest.approx([63.99, 0], abs=1 / PER_NAT)


def test_a_sequence_without_values_has_no_columns() -> None:
    assert columns_of(Sequence((1, 2), (float("nan"),) * 2, "stop")) is None
    full = Sequence((1, 2), (-0.5, -1.5), "stop", entropies=(1.0, 2.0), confidences=(3.0, 4.0))
    columns = columns_of(full)
    assert columns is not None
    assert columns.surprisals.tolist() == [0.5, 1.5]
    assert columns.entropies.tolist() == [1.0, 2.0]
    assert columns.confidences.tolist() == [3.0, 4.0]


def test_other_texts_are_refused() -> None:
    packed = pack_columns(drawn(3))
    later = zlib.compress(b"\x02" + zlib.decompress(base64.b64decode(packed))[1:])
    for text, message in (
        ("no base64", "cannot be read"),
        ("AAAA", "cannot be read"),
        (base64.b64encode(zlib.compress(b"")).decode(), "version none"),
        (base64.b64encode(later).decode(), "version 2; this program reads 1"),
    ):
        with pytest.raises(ValueError, match=message):
            unpack_columns(text, 3)
    with pytest.raises(ValueError, match="for 4 tokens"):
        unpack_columns(packed, 4)
