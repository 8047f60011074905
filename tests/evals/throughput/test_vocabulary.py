"""The random model with a large vocabulary: what a benchmark of it assumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from evals.bench import MODEL
from evals.throughput.vocabulary import make_model

VOCABULARY = 8_000
NUM_STEPS, NUM_SEQUENCES = 40, 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(VOCABULARY, MODEL, tmp_path_factory.mktemp("large") / "model")


def test_entropies_are_those_of_a_real_model(model: Path) -> None:
    drawn, entropies = _sampled(LlamaForCausalLM.from_pretrained(model, dtype=torch.float32))
    assert 0.03 < (entropies >= 1).float().mean() < 0.08
    assert entropies.median() < 0.01
    num_reserved = len(AutoTokenizer.from_pretrained(MODEL))
    assert drawn.min() >= num_reserved, "a sequence would end early"


def test_every_token_has_a_text(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    bundled = AutoTokenizer.from_pretrained(MODEL)
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.decode([VOCABULARY - 1]).strip()
    assert tokenizer.encode("make 02 from 03 08") == bundled.encode("make 02 from 03 08")


def _sampled(model: LlamaForCausalLM) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens at temperature 0.6, and top-20 entropies in nats."""
    torch.manual_seed(0)
    token_ids, cache = torch.arange(6, 6 + NUM_SEQUENCES).reshape(-1, 1), None
    drawn, entropies = [], []
    for _ in range(NUM_STEPS):
        with torch.no_grad():
            output = model(token_ids, past_key_values=cache, use_cache=True)
        logits, cache = output.logits[:, -1], output.past_key_values
        top = logits.topk(20).values.log_softmax(-1)
        entropies.append(-(top.exp() * top).sum(-1))
        token_ids = torch.multinomial((logits / 0.6).softmax(-1), 1)
        drawn.append(token_ids)
    return torch.cat(drawn), torch.cat(entropies)
