"""Draws with a seed of the request, which the server otherwise honours in one mode only.

The token of a request with a seed is drawn again, from the same distribution, with a number that
depends on the seed and the token's position in the context alone. So a request that continues
another with its seed draws what the other would have drawn. Rows without a seed are not touched.

The ranks of a model's parallel group draw the same tokens with the same numbers, as long as their
kernels round alike. Sums over the vocabulary may not on CUDA, and ranks with different tokens would
wait for each other forever. So they agree on the smallest of their tokens, as SGLang's do where it
does not trust its kernels. SGLang's agreement is earlier and covers its own draws alone.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from eager_sgl.plugin.reports import Report
from eager_sgl.plugin.signals import Distributions, draw, moved

__all__ = ["SeededRow", "agree", "draw_again", "drawn_by_seeds", "seeded_rows", "uniform"]


class SeededRow(NamedTuple):
    """A row of a batch whose token is drawn by a seed.

    Attributes:
        row: its index.
        seed: in [0, 2^63).
        position: of the token in the context.
        is_limited: whether the request has a top-p, a top-k or a min-p.
    """

    row: int
    seed: int
    position: int
    is_limited: bool


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1): 53 bits of a hash of a seed and a position."""
    digest = hashlib.blake2b(struct.pack("<Qq", seed, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / float(1 << 53)


def seeded_rows(reports: Sequence[Report | None], lengths: Sequence[int]) -> list[SeededRow]:
    """The rows of a batch that have a seed, by the lengths of their sequences."""
    return [
        SeededRow(row, seed, length, report.is_limited)
        for row, (report, length) in enumerate(zip(reports, lengths, strict=True))
        if report and (seed := report.seed) is not None
    ]


def drawn_by_seeds(
    sampler: Any,
    rows: Distributions,
    drawn: Tensor,
    seeded: Sequence[SeededRow],
    output: Any,
    info: Any,
) -> Tensor:
    """The tokens [rows], with those of the seeded rows drawn again; all ranks agree on them.

    Args:
        sampler: SGLang's.
        rows: the batch's distributions, which are probabilities.
        drawn: the tokens that SGLang has drawn.
        seeded: the rows with a seed.
        output: SGLang's, whose logprobs of the tokens are kept true.
        info: SGLang's sampling parameters of the batch.
    """
    try:
        tokens = draw_again(rows, drawn, seeded, info)
    except Exception:
        agree(sampler, drawn)  # the other ranks wait for it
        raise
    agree(sampler, tokens)
    drawn.copy_(tokens)  # the other ranks continue with them, whatever fails here from now on
    _keep_logprobs_true(rows, drawn, seeded, output)
    return drawn


def draw_again(
    rows: Distributions, drawn: Tensor, seeded: Sequence[SeededRow], info: Any
) -> Tensor:
    """The tokens [rows], with those of the seeded rows drawn again on this rank."""
    drawn = drawn.clone()
    for is_limited in (False, True):
        if not (group := [row for row in seeded if row.is_limited is is_limited]):
            continue
        chosen = moved(torch.tensor([row.row for row in group]), drawn.device)
        numbers = [uniform(row.seed, row.position) for row in group]
        uniforms = moved(torch.tensor(numbers, dtype=torch.float64), drawn.device)
        limits = [values[chosen] for values in (info.top_ps, info.top_ks, info.min_ps)]
        tokens = draw(rows.table[chosen], uniforms, limits if is_limited else None)
        drawn[chosen] = tokens.to(drawn.dtype)
    return drawn


def agree(sampler: Any, values: Tensor) -> None:
    """Replace numbers of rows by the smallest ones of all ranks that compute the same rows.

    Every rank has to call it, also where its computation has failed.

    Args:
        sampler: SGLang's, which knows the ranks.
        values: [rows], contiguous.
    """
    if not dist.is_initialized():
        return
    for group in (sampler.tp_sync_group, sampler.cp_sync_group):
        if group is not None and dist.get_world_size(group) > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MIN, group=group)


def _keep_logprobs_true(
    rows: Distributions, drawn: Tensor, seeded: Sequence[SeededRow], output: Any
) -> None:
    """Put the logprobs of the seeded rows' tokens into SGLang's output, if it has any."""
    if output.next_token_logprobs is None:
        return
    chosen = moved(torch.tensor([row.row for row in seeded]), drawn.device)
    logprobs = rows.table[chosen].gather(-1, drawn[chosen].long()[:, None])[:, 0].log()
    output.next_token_logprobs[chosen] = logprobs.to(output.next_token_logprobs.dtype)
