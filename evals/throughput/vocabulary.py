"""A small random model with a large vocabulary, whose entropies are like those of a real model.

Random weights have nearly uniform distributions, and larger ones have too few certain steps. So the
two tables of tokens are not independent. Tokens are in families of four. The row of a token in the
output table is the direction of its family plus an individual one, orthogonal to it. Its row in the
input table is the output row of another token, its successor; for `UNCERTAIN` of the tokens it is
the direction of a family alone, whose four tokens are then equally likely: ln 4 = 1.39 nats, before
two random layers add a part that depends on the tokens before. Other steps are all but certain.

The tokenizer is the bundled reasoner's with a text for every further token. Its first tokens are
never drawn: neither EOS nor the end of the reasoning, so that each sequence has the length asked
for.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["make_model", "token_tables"]

FAMILY = 4
UNCERTAIN = 0.06
HIDDEN, HEAD = 128, 64
SCALE = 25.0
"""Logit of a certain token; the highest of the others are about 12."""
LAYER_RANGE = 0.05
SEED = 0


def make_model(vocabulary: int, like: Path, folder: Path) -> Path:
    """Write the model, unless the folder is there.

    Args:
        vocabulary: number of tokens, a multiple of four.
        like: a model, whose tokenizer is extended.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as workspace:
        fresh = Path(workspace) / "fresh"
        num_reserved = _extend_tokenizer(like, fresh, vocabulary)
        _save_model(vocabulary, num_reserved, fresh)
        fresh.rename(folder)
    return folder


def _extend_tokenizer(like: Path, folder: Path, vocabulary: int) -> int:
    """Write the tokenizer; the number of tokens of the original."""
    folder.mkdir()
    for path in (*like.glob("tokenizer_config.json"), *like.glob("chat_template.jinja")):
        (folder / path.name).write_text(path.read_text())
    tokenizer = json.loads((like / "tokenizer.json").read_text())
    tokens: dict[str, int] = tokenizer["model"]["vocab"]
    num_reserved = max(tokens.values()) + 1
    tokens |= {f" t{index}": index for index in range(num_reserved, vocabulary)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return num_reserved


def _save_model(vocabulary: int, num_reserved: int, folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=HIDDEN // HEAD,
        head_dim=HEAD,
        intermediate_size=3 * HIDDEN,
        max_position_embeddings=4096,
        initializer_range=LAYER_RANGE,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    before, after = token_tables(vocabulary, num_reserved)
    model.model.embed_tokens.weight.data = before
    model.lm_head.weight.data = after
    model.to(torch.bfloat16).save_pretrained(folder)


def token_tables(vocabulary: int, num_reserved: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables of input and output, [vocabulary, HIDDEN] each.

    Args:
        num_reserved: tokens that are never drawn, the first ones.
    """
    import torch
    from torch.nn.functional import normalize

    draw = torch.Generator().manual_seed(SEED)
    families = normalize(torch.randn(-(-vocabulary // FAMILY), HIDDEN, generator=draw), dim=1)
    family = families.repeat_interleave(FAMILY, dim=0)[:vocabulary]
    alone = torch.randn(vocabulary, HIDDEN, generator=draw)
    alone = normalize(alone - (alone * family).sum(1, keepdim=True) * family, dim=1)
    after = (family + alone) / 2**0.5
    successors = torch.randint(num_reserved, vocabulary, (vocabulary,), generator=draw)
    is_uncertain = torch.rand(vocabulary, 1, generator=draw) < UNCERTAIN
    before = torch.where(is_uncertain, family[successors], after[successors])
    after[:num_reserved] = 0
    # The final norm gives a hidden state the length of HIDDEN ** 0.5.
    return before * HIDDEN**0.5, after * SCALE / HIDDEN**0.5
