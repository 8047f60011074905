"""Attention in PyTorch that decodes many sequences per call.

SGLang's own PyTorch attention (0.5.23) decodes one sequence after the other, and that loop is 70 %
of the time of a small model at 128 sequences.

In float32 the scores of all sequences are the values of a sparse matrix (queries by keys): they are
computed and used at the keys' and values' places in the cache, and nothing is copied or padded.
PyTorch has no such product in half precision; there keys and values are gathered for groups of
sequences of similar length. At 150 sequences of 120 tokens the groups take 3.4 times as long.

Every continuation and every fork finds its prefix cached except the last token, so its prefill is
one step of decoding. SGLang's loop computes such a step as if the whole prefix were new; here it
joins the sequences that decode.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from torch import Tensor
from torch.nn.functional import embedding_bag, pad, scaled_dot_product_attention

__all__ = ["BatchedDecodeBackend", "group_by_length"]

# Keys (or values) gathered per attention call: they fit a core's second-level cache.
GATHERED_BYTES = 512 * 1024

DecodeGroup = tuple[Tensor, Tensor, Tensor]
"""Rows of the batch [g], their KV slots [g * longest], and a mask [g, 1, 1, longest]."""


ExtendParts = tuple[Tensor, Tensor, Tensor, Tensor]
"""Rows of a batch that add a single token, rows that add several, and the tokens of both."""


class DecodePattern(NamedTuple):
    """The cached tokens that each head of each row attends to: bags, ordered by head, then row.

    Attributes:
        scores: sparse [bags, KV slots * KV heads], written by every layer.
        columns, starts: int64, its columns of all bags, and where bags start and the last one ends.
        lengths: int64 [bags].
        bags: int64, the bag of each column.
    """

    scores: Tensor
    columns: Tensor
    starts: Tensor
    lengths: Tensor
    bags: Tensor


class BatchedDecodeBackend(TorchNativeAttnBackend):  # type: ignore[misc]
    """SGLang's PyTorch attention, which decodes many sequences instead of single ones."""

    def init_forward_metadata(self, forward_batch: Any) -> None:
        super().init_forward_metadata(forward_batch)
        # The layers of a forward pass share what the first of its kind makes.
        self.decode_patterns: dict[tuple[int, ...], DecodePattern] = {}
        self.decode_groups: list[DecodeGroup] = []
        self.extend_parts: ExtendParts | None = None

    def _run_sdpa_forward_extend(
        self,
        query: Tensor,
        output: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        req_to_token: Tensor,
        req_pool_indices: Tensor,
        seq_lens: Tensor,
        extend_prefix_lens: Tensor,
        extend_seq_lens: Tensor,
        encoder_lens: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        extend = super()._run_sdpa_forward_extend
        rows = (req_pool_indices, seq_lens, extend_prefix_lens, extend_seq_lens)
        is_plain = encoder_lens is None and options["sliding_window_size"] is None
        if not (is_plain and options["causal"]):
            return extend(  # type: ignore[no-any-return]
                query, output, k_cache, v_cache, req_to_token, *rows, encoder_lens, **options
            )
        if self.extend_parts is None:
            self.extend_parts = _extend_parts(extend_seq_lens)
        single, several, single_tokens, several_tokens = self.extend_parts
        if len(single):
            kv_rows = (req_to_token, req_pool_indices[single], seq_lens[single])
            output[single_tokens] = self._run_sdpa_forward_decode(
                query[single_tokens],
                torch.empty_like(output[single_tokens]),
                *(k_cache, v_cache, *kv_rows),
                **options,
            )
        if len(several):
            tokens, batch = query[several_tokens], [row[several] for row in rows]
            output[several_tokens] = extend(
                tokens, torch.empty_like(tokens), k_cache, v_cache, req_to_token, *batch, **options
            )
        return output

    def _run_sdpa_forward_decode(
        self,
        query: Tensor,
        output: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        req_to_token: Tensor,
        req_pool_indices: Tensor,
        seq_lens: Tensor,
        encoder_lens: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        kv_rows = (req_to_token, req_pool_indices, seq_lens)
        is_plain = encoder_lens is None and options["sliding_window_size"] is None
        if not is_plain or query.dtype != k_cache.dtype:
            return super()._run_sdpa_forward_decode(  # type: ignore[no-any-return]
                query, output, k_cache, v_cache, *kv_rows, encoder_lens, **options
            )
        if query.dtype == torch.float32:
            pattern = self._pattern_of(query, k_cache, *kv_rows)
            return output.copy_(_attend(query, k_cache, v_cache, pattern, options["scaling"]))
        if not self.decode_groups:
            self.decode_groups = _decode_groups(*kv_rows, k_cache[0].nbytes)
        for rows, slots, mask in self.decode_groups:
            keys, values = (
                cache.index_select(0, slots).view(len(rows), -1, *cache.shape[1:])
                for cache in (k_cache, v_cache)
            )
            attended = scaled_dot_product_attention(
                query[rows].unsqueeze(2),
                keys.transpose(1, 2),
                values.transpose(1, 2),
                attn_mask=mask,
                scale=options["scaling"],
                enable_gqa=options["enable_gqa"],
            )
            output[rows] = attended.squeeze(2)
        return output

    def _pattern_of(self, query: Tensor, k_cache: Tensor, *kv_rows: Tensor) -> DecodePattern:
        num_heads, (num_slots, num_kv_heads) = query.shape[1], k_cache.shape[:2]
        shape = (num_heads, num_slots, num_kv_heads)
        if shape not in self.decode_patterns:
            self.decode_patterns[shape] = _decode_pattern(kv_rows, *shape)
        return self.decode_patterns[shape]


def _extend_parts(extend_seq_lens: Tensor) -> ExtendParts:
    is_single = extend_seq_lens == 1
    token_is_single = is_single.repeat_interleave(extend_seq_lens)
    masks = (is_single, ~is_single, token_is_single, ~token_is_single)
    single, several, single_tokens, several_tokens = (mask.nonzero()[:, 0] for mask in masks)
    return single, several, single_tokens, several_tokens


def _decode_pattern(
    kv_rows: Sequence[Tensor], num_heads: int, num_slots: int, num_kv_heads: int
) -> DecodePattern:
    req_to_token, req_pool_indices, seq_lens = kv_rows
    is_cached = torch.arange(int(seq_lens.max())) < seq_lens[:, None]
    slots = req_to_token[req_pool_indices, : is_cached.shape[1]][is_cached].long()
    kv_heads = torch.arange(num_heads) // (num_heads // num_kv_heads)
    columns = (slots * num_kv_heads + kv_heads[:, None]).flatten()
    lengths = seq_lens.long().repeat(num_heads)
    starts = pad(lengths.cumsum(0), (1, 0))
    # Zeros, since the product adds to what is there, even if 0 times that.
    zeros, shape = torch.zeros(len(columns)), (len(lengths), num_slots * num_kv_heads)
    with warnings.catch_warnings(action="ignore"):  # that sparse tensors are young
        scores = torch.sparse_csr_tensor(starts, columns, zeros, shape, check_invariants=False)
    return DecodePattern(scores, columns, starts, lengths, torch.repeat_interleave(lengths))


def _attend(
    query: Tensor, k_cache: Tensor, v_cache: Tensor, pattern: DecodePattern, scaling: float
) -> Tensor:
    """The attention of every row's query [n, heads, size]: [n, heads, size of values]."""
    scores, columns, starts, lengths, bags = pattern
    queries = query.transpose(0, 1).flatten(0, 1)
    keys = k_cache.flatten(0, 1).transpose(0, 1)
    torch.sparse.sampled_addmm(scores, queries, keys, beta=0.0, alpha=scaling, out=scores)
    values = scores.values()
    largest = torch.segment_reduce(values, "max", lengths=lengths, unsafe=True)
    weights = (values - largest.index_select(0, bags)).exp_()
    sums = torch.segment_reduce(weights, "sum", lengths=lengths, unsafe=True)
    attended = embedding_bag(
        columns,
        v_cache.flatten(0, 1),
        starts,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )
    return (attended / sums[:, None]).view(query.shape[1], len(query), -1).transpose(0, 1)


def group_by_length(lengths: Sequence[int], max_cells: int) -> list[list[int]]:
    """Split sequences into groups of similar length, as indices into `lengths`.

    A group is padded to its longest sequence; its size times that length is at most `max_cells`
    unless it holds a single sequence.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[index] <= max_cells:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _decode_groups(
    req_to_token: Tensor, req_pool_indices: Tensor, seq_lens: Tensor, bytes_per_token: int
) -> list[DecodeGroup]:
    groups = []
    for indices in group_by_length(seq_lens.tolist(), GATHERED_BYTES // bytes_per_token):
        rows = torch.tensor(indices)
        lengths = seq_lens[rows]
        longest = int(lengths[-1])
        # The slots past a sequence's end are whatever an earlier request left; the mask hides them.
        slots = req_to_token[req_pool_indices[rows], :longest].flatten()
        mask = torch.arange(longest) < lengths.unsqueeze(1)
        groups.append((rows, slots, mask[:, None, None, :]))
    return groups
