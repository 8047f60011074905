"""The form in which the server reports: blocks of little-endian arrays, in base64.

`meta_info["eager"]` of an answer is a list of blocks, and of None where SGLang pads it. An event of
a stream has all blocks so far. Indices count a request's tokens from 0.

A block starts with its kind (1 byte), K (1 byte), a set of columns as bits (2 bytes) and a number n
(4 bytes). Steps: int32 indices [n], int32 token ids [n, K], float32 logprobs [n, K]. Tokens: the
int32 index of the first, then float32 [n] for each column. A cut: an int32 index and a float32
confidence. A fault: n bytes of UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl.plugin.vocabulary import COLUMNS, Column

__all__ = ["Reports", "pack_cut", "pack_fault", "pack_steps", "pack_tokens", "unpack"]

_HEADER = struct.Struct("<BBHI")
_CUT = struct.Struct("<if")
_STEPS, _TOKENS, _CUT_KIND, _FAULT = 1, 2, 3, 4


@dataclass(frozen=True)
class Reports:
    """The reports of a request so far.

    Attributes:
        indices: int32 [n], of the steps that are reported, rising.
        token_ids: int32 [n, K], most likely first.
        logprobs: float32 [n, K], natural logarithms in the whole distribution at the request's
            temperature, before top-p.
        columns: float32 [m] each, of the first m tokens.
        cut: the index of the step whose running confidence was below the floor, and that value;
            the tokens after it do not belong to the sequence. None where it was not.
        fault: why the server has switched the gate off for the request; None if it has not.
    """

    indices: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    columns: Mapping[Column, NDArray[np.float32]]
    cut: tuple[int, float] | None = None
    fault: str | None = None


def pack_steps(
    indices: Iterable[int], token_ids: NDArray[np.int32], logprobs: NDArray[np.float32]
) -> str:
    """Steps: n indices, ids [n, K], logprobs [n, K]."""
    rows = np.fromiter(indices, np.int32)
    return _packed(
        _STEPS,
        rows.astype("<i4").tobytes()
        + token_ids.astype("<i4").tobytes()
        + logprobs.astype("<f4").tobytes(),
        top_k=token_ids.shape[1],
        number=len(rows),
    )


def pack_tokens(first: int, columns: Mapping[Column, NDArray[np.float32]]) -> str:
    """The columns [n] of n tokens from index `first` on; at least one column."""
    names = [name for name in COLUMNS if name in columns]
    arrays = [columns[name].astype("<f4").tobytes() for name in names]
    return _packed(
        _TOKENS,
        struct.pack("<i", first) + b"".join(arrays),
        bits=sum(1 << COLUMNS.index(name) for name in names),
        number=len(columns[names[0]]),
    )


def pack_cut(index: int, confidence: float) -> str:
    """The step whose running confidence was below the floor."""
    return _packed(_CUT_KIND, _CUT.pack(index, confidence))


def pack_fault(reason: str) -> str:
    """Why the gate is off."""
    text = reason.encode()[:1000]
    return _packed(_FAULT, text, number=len(text))


def _packed(kind: int, body: bytes, *, top_k: int = 0, bits: int = 0, number: int = 0) -> str:
    return base64.b64encode(_HEADER.pack(kind, top_k, bits, number) + body).decode("ascii")


def unpack(blocks: Iterable[object], top_k: int, before: Reports | None = None) -> Reports:
    """The reports that blocks hold, in their order.

    Args:
        top_k: K of the request, for the shape where no step is reported.
        before: the reports of earlier blocks, which these continue; None for the first blocks.

    Raises:
        ValueError: a block is malformed.
    """
    if before is None:
        before = _no_reports(top_k)
    known = before.indices, before.token_ids, before.logprobs
    steps = [known] if len(before.indices) else []
    parts = {name: [values] for name, values in before.columns.items()}
    cut, fault = before.cut, before.fault
    for block in blocks:
        if block is None:
            continue
        kind, k, bits, number, body = _opened(block)
        try:
            if kind == _STEPS:
                steps.append(_steps_of(body, number, k))
            elif kind == _TOKENS:
                _add_tokens(parts, body, number, bits)
            elif kind == _CUT_KIND:
                cut = _CUT.unpack(body)
            elif kind == _FAULT:
                fault = body[:number].decode(errors="replace")
            else:
                raise ValueError(f"a block of kind {kind}")
        except struct.error as error:
            raise ValueError(f"a block of {len(body)} bytes ({error})") from error
    indices, token_ids, logprobs = (
        np.concatenate(arrays) for arrays in zip(*(steps or [known]), strict=True)
    )
    columns = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Reports(indices, token_ids, logprobs, columns, cut, fault)


def _no_reports(top_k: int) -> Reports:
    shape = 0, top_k
    return Reports(
        np.empty(0, np.int32), np.empty(shape, np.int32), np.empty(shape, np.float32), {}
    )


def _opened(block: object) -> tuple[int, int, int, int, bytes]:
    if not isinstance(block, str):
        raise ValueError(f"a block is a string, not {block!r:.50}")
    try:
        content = base64.b64decode(block, validate=True)
        return *_HEADER.unpack_from(content), content[_HEADER.size :]
    except (binascii.Error, struct.error) as error:
        raise ValueError(f"the block {block!r:.50} ({error})") from error


def _steps_of(
    body: bytes, number: int, k: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    if len(body) != 4 * number * (1 + 2 * k):
        raise ValueError(f"a block of {len(body)} bytes for {number} steps of {k} tokens")
    numbers = np.frombuffer(body, "<i4")
    split = number * (1 + k)
    return (
        numbers[:number],
        numbers[number:split].reshape(number, k),
        numbers[split:].view("<f4").reshape(number, k),
    )


def _add_tokens(
    parts: dict[Column, list[NDArray[np.float32]]], body: bytes, number: int, bits: int
) -> None:
    names = [name for place, name in enumerate(COLUMNS) if bits >> place & 1]
    (first,) = struct.unpack_from("<i", body)
    if len(body) != 4 + 4 * number * len(names):
        raise ValueError(f"a block of {len(body)} bytes for {number} values of {names}")
    table = np.frombuffer(body, "<f4", offset=4).reshape(len(names), number)
    for name, values in zip(names, table, strict=True):
        known = sum(map(len, parts.setdefault(name, [])))
        if first != known:
            raise ValueError(f"its {name} continue at {first}, after {known} values")
        parts[name].append(values)
