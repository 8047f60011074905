"""What samples cost that share their prefixes: every token of their trie once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evals.laboratory.draws import Draws

__all__ = ["unique_tokens"]


def unique_tokens(draws: Draws, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of each sample that no earlier one has [R, M]: `TokenCounts.unique` when added up.

    The server decodes fewer: a token at which a sample leaves the tree is drawn by the client.

    Args:
        tokens: [R, M], of each sample, as far as it was decoded.
    """
    shared = np.minimum(draws.common, tokens[:, None, :]).max(axis=2)
    return np.asarray(tokens - np.minimum(shared, tokens))
