"""The steps of a search as text: the tokens that its decisions depend on, packed.

Of every step those of the K most likely tokens are kept that the search may open, in falling
probability, and the token that was taken. A step at which only the taken token is left decides
nothing and is dropped. The text is base64 of zlib of: K and the number n of steps (int32), the n
positions (int32) and numbers of tokens (int32), then all token ids (int32) and logprobs (float32).
Before zlib, the first bytes of all these numbers come first, then the second, third and fourth ones
(a quarter less text).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eager_sgl.steps import Steps

__all__ = ["pack_steps", "unpack_steps"]

BYTES = 4
"""Of every number."""


def pack_steps(steps: Steps, taken: Sequence[int], can_open: NDArray[np.bool_]) -> str:
    """The steps as text; empty if none of them decides anything.

    Args:
        steps: n steps of a segment.
        taken: the n tokens of the segment.
        can_open: [n, K], the tokens that may be opened: in every row the most likely ones. The
            probability of a taken token that is not among them is not kept.
    """
    is_taken = steps.token_ids == np.asarray(taken, np.int32)[:, None]
    is_kept = can_open | is_taken
    rows = np.flatnonzero((can_open & ~is_taken).any(axis=1))
    if not len(rows):
        return ""
    is_kept = is_kept[rows]
    token_ids = steps.token_ids[rows][is_kept]
    logprobs = np.where(can_open, steps.logprobs, -np.inf)[rows][is_kept]
    header = np.array([steps.token_ids.shape[1], len(rows)], "<i4")
    columns = (steps.positions[rows], is_kept.sum(axis=1), token_ids)
    parts = [header, *(column.astype("<i4") for column in columns), logprobs.astype("<f4")]
    numbers = np.frombuffer(b"".join(part.tobytes() for part in parts), np.uint8)
    packed = zlib.compress(numbers.reshape(-1, BYTES).T.tobytes(), level=9)
    return base64.b64encode(packed).decode()


def unpack_steps(text: str) -> Steps:
    """The steps of a text; tokens that were not kept have the id −1 and probability 0.

    The tokens that were kept are the nucleus, so `top_k_mass` is 0: top-p removes no more of them.

    Args:
        text: of `pack_steps`, not empty.

    Raises:
        ValueError: it is no such text.
    """
    try:
        content = zlib.decompress(base64.b64decode(text))
    except zlib.error as error:
        raise ValueError(f"packed steps cannot be read: {error}") from error
    whole = np.frombuffer(content, np.uint8).reshape(BYTES, -1).T.copy().view("<i4")[:, 0]
    top_k, num_steps = whole[:2].tolist()
    positions, counts = whole[2 : 2 + 2 * num_steps].reshape(2, num_steps).astype(np.int32)
    kept = whole[2 + 2 * num_steps :]
    is_kept = np.arange(top_k) < counts[:, None]
    token_ids = np.full(is_kept.shape, -1, np.int32)
    logprobs = np.full(is_kept.shape, -np.inf, np.float32)
    token_ids[is_kept], logprob_bits = kept.reshape(2, -1)
    logprobs[is_kept] = logprob_bits.view("<f4")
    return Steps(positions, token_ids, logprobs, np.zeros(num_steps, np.float32))
