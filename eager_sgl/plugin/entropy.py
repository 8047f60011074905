"""The entropy that the gate compares with θ; `eager_sgl.engine.gate.pickled` sends its text."""

import torch
from torch import Tensor

__all__ = ["top_k_entropies"]


def top_k_entropies(values: Tensor, temperatures: Tensor) -> Tensor:
    """Entropies [n] in nats of distributions over K tokens, as `eager_sgl.signals.top_k_entropy`.

    Args:
        values: [n, K], logits or logprobs at temperature 1; −inf for probability 0.
        temperatures: [n, 1], of the distributions whose entropies are taken.
    """
    probabilities = torch.softmax(values / temperatures, -1)
    surprise: Tensor = torch.special.entr(probabilities)
    return surprise.sum(-1)
