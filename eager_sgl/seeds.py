"""Seeds made from other seeds, so that draws of different causes are independent."""

from __future__ import annotations

import secrets
from hashlib import blake2b

__all__ = ["derived_seed", "fresh_seed"]

NUM_BITS = 63
"""SGLang takes seeds as int64; its hash mixes all bits."""


def derived_seed(seed: int, *causes: int) -> int:
    """The seed in [0, 2^63) of the draws that `seed` has for these causes, equal in any process."""
    text = " ".join(map(str, (seed, *causes)))
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - NUM_BITS)


def fresh_seed() -> int:
    """A seed in [0, 2^63) from the operating system."""
    return secrets.randbits(NUM_BITS)
