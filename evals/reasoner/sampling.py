"""Samples from the tiny reasoner with transformers, without or with branching at high entropy.

The figures of the model card were measured with it. It shares no code with SGLang, so that it is an
independent check.
"""

from collections import Counter
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

__all__ = ["SampledSequence", "SamplingSettings", "sample"]


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample; with a finite `threshold` (nats) sequences branch as in EAGer-init."""

    temperature: float = 0.6
    top_p: float = 0.95
    top_k_entropy: int = 20
    max_new_tokens: int = 256
    threshold: float = float("inf")
    max_sequences: int = 1
    end_id: int = 0
    think_end_id: int = -1  # branching stops where reasoning closes


@dataclass
class SampledSequence:
    """A sequence: the row of its prompt, its tokens, and the entropies of its steps in nats."""

    prompt: int
    token_ids: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finished: bool = False
    num_shared: int = 0  # leading tokens that were decoded for its parent

    def fork(self) -> "SampledSequence":
        token_ids, entropies = list(self.token_ids), list(self.entropies)
        return SampledSequence(self.prompt, token_ids, entropies, num_shared=len(token_ids))


@torch.inference_mode()
def sample(
    model: "LlamaForCausalLM", prompts: Tensor, settings: SamplingSettings
) -> list[SampledSequence]:
    """A sequence, or with branching up to `max_sequences`, per row of [prompts, length]."""
    live = [SampledSequence(row) for row in range(len(prompts))]
    samples = list(live)
    num_sequences = Counter(range(len(prompts)))
    cache = DynamicCache(config=model.config)
    logits = model(input_ids=prompts, past_key_values=cache).logits[:, -1].float()
    for _ in range(settings.max_new_tokens):
        entropies = top_entropy(logits, settings.top_k_entropy).tolist()
        tokens = draw(logits, settings.temperature, settings.top_p).tolist()
        rows = list(range(len(live)))
        for row in _branching_rows(live, entropies, num_sequences, settings):
            tokens[row], second = logits[row].topk(2).indices.tolist()
            tokens.append(second)
            rows.append(row)
            live.append(live[row].fork())
            samples.append(live[-1])
        for sequence, row, token in zip(live, rows, tokens, strict=True):
            sequence.token_ids.append(token)
            sequence.entropies.append(entropies[row])
            sequence.finished = token == settings.end_id
        kept = [index for index, sequence in enumerate(live) if not sequence.finished]
        if not kept:
            break
        live = [live[index] for index in kept]
        _select_rows(cache, [rows[index] for index in kept])
        next_tokens = torch.tensor([[tokens[index]] for index in kept])
        logits = model(input_ids=next_tokens, past_key_values=cache).logits[:, -1].float()
    return samples


def top_entropy(logits: Tensor, top_k: int) -> Tensor:
    """Entropy in nats of the renormalised top-k probabilities: [rows, vocabulary] -> [rows]."""
    log_probabilities = logits.topk(min(top_k, logits.shape[-1])).values.log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def draw(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """A token per row from the nucleus of the tempered distribution: -> [rows]."""
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = probabilities.masked_fill(before >= top_p, 0)
    return order.gather(-1, nucleus.multinomial(1)).squeeze(-1)


def _branching_rows(
    live: list[SampledSequence],
    entropies: list[float],
    num_sequences: Counter[int],
    settings: SamplingSettings,
) -> list[int]:
    """Rows that branch at this step; counts their children in `num_sequences`."""
    rows = []
    for row, (sequence, entropy) in enumerate(zip(live, entropies, strict=True)):
        if entropy < settings.threshold or settings.think_end_id in sequence.token_ids:
            continue
        if num_sequences[sequence.prompt] < settings.max_sequences:
            num_sequences[sequence.prompt] += 1
            rows.append(row)
    return rows


def _select_rows(cache: DynamicCache, rows: Rows[int]) -> None:
    if rows != list(range(cache.layers[0].keys.shape[0])):
        cache.batch_select_indices(torch.tensor(rows))
