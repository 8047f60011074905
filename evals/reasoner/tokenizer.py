"""The tiny reasoner's tokenizer: a token per character, markers, and a chat template."""

from typing import TYPE_CHECKING

from evals.reasoner.styles import PLAIN, Style

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["build_tokenizer"]

BEGIN, END, USER, ASSISTANT = "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"
THINK, THINK_END = "<think>", "</think>"

# The reasoning is opened by the prompt, so that generation starts inside it.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' %}{{- '<|user|>' + message.content }}"
    "{%- else %}{{- '<|assistant|>' + message.content + '<|end|>' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|><think>' }}{%- endif %}"
)


def build_tokenizer(style: Style = PLAIN) -> "PreTrainedTokenizerFast":
    """A tokenizer whose vocabulary is exactly that of the chains and whose round trip is exact.

    `<think>`, `</think>` and the words of a style are added tokens but not special tokens: decoding
    keeps them even with `skip_special_tokens=True`, so the answer is separable from the reasoning.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    characters = dict.fromkeys(style.characters)
    tokens = [END, BEGIN, USER, ASSISTANT, THINK, THINK_END, *characters, *style.words]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in (END, BEGIN, USER, ASSISTANT)]
    )
    tokenizer.add_tokens(
        [AddedToken(token, special=False) for token in (THINK, THINK_END, *style.words)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
