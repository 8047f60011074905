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
    unique = tokens.copy()
    for index in range(1, draws.max_sequences):
        rows = np.flatnonzero(tokens[:, index])
        earlier = draws.order[rows, :index]
        common = draws.samples.common[draws.order[rows, index][:, None], earlier]
        shared = np.minimum(common, tokens[rows, :index]).max(axis=1, initial=0)
        unique[rows, index] -= np.minimum(shared, tokens[rows, index])
    return unique
