"""A model with weights set by hand that calls a tool, and has all characters of ASCII.

The bundled models have no brace in their vocabularies, so that they can write no call. Here the
next token depends on the last one alone: attention and MLP add nothing, the input table has a
dimension for every token, and the output table has the logits of the tokens after it. First it
calls `weigh` with x = 1, or with x = 2 in a fifth of the cases. Where a grammar allows
other tokens only, it writes what the grammar requires, and prefers to end.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["CALLS", "STRICT", "TOOLS", "make_calling_model"]

_END, _BEGIN, _USER, _ASSISTANT = "<|end|>", "<|begin|>", "<|user|>", "<|assistant|>"
_OPEN = '<tool_call>\n{"name": "weigh", "arguments": {"x": '
_CLOSE = "}}\n</tool_call>"
_CHARACTERS = [chr(code) for code in (10, *range(32, 127))]
_TOKENS = [_BEGIN, _END, _USER, _ASSISTANT, *_CHARACTERS, _OPEN, _CLOSE]
_HIDDEN, _HEAD = 128, 64
_CERTAIN = 30.0

CALLS = ('{"x": 1}', '{"x": 2}')
"""The arguments that it writes."""
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"x": {"enum": [1, 2]}},
                "required": ["x"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("weigh", "count")
]

STRICT: list[Any] = [{**tool, "function": {**tool["function"], "strict": True}} for tool in TOOLS]
"""The same, whose arguments SGLang's grammar keeps to their schema."""

_TEMPLATE = (
    "{{- '<|begin|>' }}"
    "{%- for message in messages %}{{- '<|user|>' + message.content }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


def make_calling_model(folder: Path) -> Path:
    """Write the model and its tokenizer; the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(_TOKENS),
        hidden_size=_HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=_HIDDEN // _HEAD,
        num_key_value_heads=_HIDDEN // _HEAD,
        head_dim=_HEAD,
        intermediate_size=_HIDDEN,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    layer = model.model.layers[0]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(_TOKENS), _HIDDEN))
        # The final norm gives a hidden state the length of _HIDDEN ** 0.5.
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, : len(_TOKENS)] = _logits().T / _HIDDEN**0.5
    model.to(torch.bfloat16).save_pretrained(folder)
    _save_tokenizer(folder)
    return folder


def _logits() -> torch.Tensor:
    """[last token, next token]."""
    import torch

    index = {token: number for number, token in enumerate(_TOKENS)}
    logits = torch.zeros(len(_TOKENS), len(_TOKENS))
    for token, logit in {"\n": -20.0, " ": -20.0, "]": 10.0, "1": 1.386}.items():
        logits[:, index[token]] = logit
    logits[index[_ASSISTANT], index[_OPEN]] = _CERTAIN
    for digit in "12":
        logits[index[_OPEN], index[digit]] += _CERTAIN
        logits[index[digit], index[_CLOSE]] = _CERTAIN
    for token in (_CLOSE, ">"):  # after a grammar's call any text may follow
        logits[index[token], index[_END]] = _CERTAIN
    return logits


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(_TOKENS)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    special = [AddedToken(token, special=True) for token in _TOKENS[:4]]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(token, special=False) for token in (_OPEN, _CLOSE)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BEGIN,
        eos_token=_END,
        pad_token=_END,
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.save_pretrained(folder)
