"""Decoding many sequences at once gives what SGLang's own loop gives."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend

    from eager_sgl.embedded.cpu_attention import BatchedDecodeBackend

LENGTHS = [1, 7, 300, 64, 2, 64, 65, 1000]
NUM_HEADS, HEAD_SIZE = 4, 16


def backends() -> tuple[BatchedDecodeBackend, TorchNativeAttnBackend]:
    """Both kinds; their imports take long, also where no test of these runs."""
    with warnings.catch_warnings(action="ignore"):  # of quantisation for other devices
        from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend

        from eager_sgl.embedded.cpu_attention import BatchedDecodeBackend

    batched = BatchedDecodeBackend.__new__(BatchedDecodeBackend)
    batched.decode_patterns, batched.decode_groups, batched.extend_parts = {}, [], None
    return batched, TorchNativeAttnBackend.__new__(TorchNativeAttnBackend)


@pytest.mark.parametrize("scale", [1.0, 100.0])  # exp of the greatest score would overflow
@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_it_equals_the_loop_over_sequences(
    dtype: torch.dtype, error: float, num_kv_heads: int, scale: float
) -> None:
    torch.manual_seed(0)
    slots = torch.split(torch.randperm(sum(LENGTHS) + 5)[: sum(LENGTHS)], LENGTHS)
    req_to_token = torch.zeros(len(LENGTHS) + 2, max(LENGTHS), dtype=torch.int64)
    rows = torch.arange(len(LENGTHS)) + 2
    for row, kv_slots in zip(rows, slots, strict=True):
        req_to_token[row, : len(kv_slots)] = kv_slots
    caches = torch.randn(2, sum(LENGTHS) + 5, num_kv_heads, HEAD_SIZE).to(dtype)
    query = (torch.randn(len(LENGTHS), NUM_HEADS, HEAD_SIZE) * scale).to(dtype)

    def decode(backend: TorchNativeAttnBackend) -> torch.Tensor:
        return backend._run_sdpa_forward_decode(  # type: ignore[no-any-return]
            query,
            torch.empty_like(query),
            *caches,
            req_to_token,
            rows,
            torch.tensor(LENGTHS),
            None,
            scaling=HEAD_SIZE**-0.5,
            enable_gqa=num_kv_heads != NUM_HEADS,
            causal=False,
            sliding_window_size=None,
        )

    batched, loop = backends()
    for _ in range(2):  # as two layers of a forward pass
        assert torch.allclose(decode(batched), decode(loop), atol=error)
    assert bool(batched.decode_patterns) == (dtype == torch.float32)
    assert bool(batched.decode_groups) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("extends", [[1, 3, 1, 64, 2, 1, 5, 1], [1] * 8, [1, 7, 5, 2, 2, 4, 9, 3]])
def test_prefilling_equals_the_loop_over_sequences(extends: list[int]) -> None:
    torch.manual_seed(0)
    slots = torch.split(torch.randperm(sum(LENGTHS) + 5)[: sum(LENGTHS)], LENGTHS)
    req_to_token = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64)
    for row, kv_slots in enumerate(slots):
        req_to_token[row, : len(kv_slots)] = kv_slots
    caches = torch.randn(2, sum(LENGTHS) + 5, NUM_HEADS, HEAD_SIZE)
    query = torch.randn(sum(extends), NUM_HEADS, HEAD_SIZE)
    lengths, added = torch.tensor(LENGTHS), torch.tensor(extends)

    def prefill(backend: TorchNativeAttnBackend) -> torch.Tensor:
        return backend._run_sdpa_forward_extend(  # type: ignore[no-any-return]
            query,
            torch.empty_like(query),
            *caches,
            req_to_token,
            torch.arange(len(LENGTHS)),
            lengths,
            lengths - added,
            added,
            None,
            scaling=HEAD_SIZE**-0.5,
            enable_gqa=False,
            causal=True,
            sliding_window_size=None,
        )

    batched, loop = backends()
    assert torch.allclose(prefill(batched), prefill(loop), atol=1e-5)


def test_groups_hold_every_sequence_once_and_stay_within_their_size() -> None:
    from eager_sgl.embedded.cpu_attention import group_by_length

    lengths = [7, 900, 64, 3, 64, 250, 1, 250]
    groups = group_by_length(lengths, max_cells=512)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= 512
        assert lengths[group[-1]] == longest


def test_a_sequence_above_the_size_is_a_separate_group() -> None:
    from eager_sgl.embedded.cpu_attention import group_by_length

    assert group_by_length([5, 6], max_cells=0) == [[0], [1]]
