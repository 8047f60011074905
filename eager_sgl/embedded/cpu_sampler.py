"""Sampling in PyTorch that keeps up with large vocabularies.

SGLang's own PyTorch sampler (0.5.23) sorts the whole vocabulary of every sequence for a top-p, and
draws a random number for every token without one. For 64 sequences and 152,000 tokens that takes
730 and 260 ms a step on two cores, longer than the forward pass of a model of 0.5 B parameters; by
inversion, with the most likely tokens ranked first, it takes 38 and 47.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HOOKS", "sample"]


def sample(
    original: Callable[..., tuple[Tensor, Any]],
    sampler: Any,
    probs: Tensor,
    sampling_info: Any,
    positions: Tensor,
    simple_sampling_case: bool,
) -> tuple[Tensor, Any]:
    """Around `Sampler._sample_from_probs`: a token [n] for every row, in the same distribution.

    SGLang draws where it is asked for its sampling mask or has seeds of its own. Rows without
    limits are not ranked. The token of a row with a NaN is arbitrary.

    Args:
        original: SGLang's function, and then its arguments.
        probs: [n, vocabulary], after the temperature.
        simple_sampling_case: whether no row has a top-p, a top-k or a min-p.
    """
    import torch

    from eager_sgl.plugin.signals import draw

    info = sampling_info
    if info.sampling_mask_batch_indices is not None or info.sampling_seed is not None:
        return original(sampler, probs, info, positions, simple_sampling_case)
    uniforms = torch.rand(len(probs), dtype=torch.float64)
    limits = (info.top_ps, info.top_ks, info.min_ps)
    tokens = torch.empty(len(probs), dtype=torch.int32)
    is_limited = (limits[0] < 1) | (limits[1] < probs.shape[-1]) | (limits[2] > 0)
    for rows in (is_limited.nonzero()[:, 0], (~is_limited).nonzero()[:, 0]):
        if len(rows):
            of_rows = [limit[rows] for limit in limits] if is_limited[rows[0]] else None
            tokens[rows] = draw(probs[rows], uniforms[rows], of_rows).to(torch.int32)
    return tokens, None


HOOKS = [("sglang.srt.layers.sampler.Sampler._sample_from_probs", sample, "AROUND")]
"""SGLang 0.5.23's function, and where the hook stands."""
