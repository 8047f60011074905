"""The end of a model's reasoning, found out from its chat template.

A model whose template shows no sign of a reasoning section has none. The template of a folder, or
of a model in the hub's cache, is read; that of a server is not in any of its answers, so the server
renders conversations: the template of a reasoning model opens or mentions the section in the
prompt, closes it there where thinking is off, or removes it from an earlier answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eager_sgl.engine.transport import Transport

__all__ = [
    "HARMONY_END",
    "THINK_END",
    "ReasoningEnd",
    "end_in",
    "end_of_served",
    "found_end",
    "template_of",
]

THINK_END = "</think>"
HARMONY_END = "<|channel|>final<|message|>"
TEMPLATE, TOKENIZER = "chat_template.jinja", "tokenizer_config.json"
HUB_SECONDS = 5.0

HARMONY = re.compile(r"<\|channel\|>")
SIGNS = re.compile(
    r"</?\|?think|\[/?THINK\]|reasoning_content|reasoning_effort|enable_thinking", re.IGNORECASE
)
REASONING, ANSWER = "Hidden step.", "Shown answer."
SWITCHES = ("enable_thinking", "thinking")
"""Variables of templates of models that think or do not."""
QUESTION = {"role": "user", "content": "Hi"}
ANSWERED = {"role": "assistant", "content": f"<think>\n{REASONING}\n{THINK_END}\n\n{ANSWER}"}


@dataclass(frozen=True)
class ReasoningEnd:
    """The text that closes the reasoning, and what it follows from.

    Attributes:
        text: None for a model without a reasoning section.
        note: a line for the header of a run; None where it holds nothing new.
    """

    text: str | None
    note: str | None = None


def found_end(text: str | None, model: str) -> ReasoningEnd:
    """The end that a chat template shows; a model without any is worth a note."""
    if text == THINK_END:
        return ReasoningEnd(text)
    found = "shows no reasoning section" if text is None else f"ends its reasoning with {text}"
    return ReasoningEnd(
        text,
        f"reasoning end: {text or 'none'}; the chat template of {model} {found} "
        "(--reasoning-end sets another)",
    )


def end_in(template: str) -> str | None:
    """The end of reasoning by the text of a chat template; None if it shows no reasoning."""
    if HARMONY.search(template):
        return HARMONY_END
    return THINK_END if SIGNS.search(template) else None


def template_of(model: str) -> str | None:
    """The chat template of a model folder or of a hub id; None where there is none to read."""
    files = {name: _read(model, name) for name in (TEMPLATE, TOKENIZER)}
    if files[TEMPLATE]:
        return files[TEMPLATE]
    try:
        template = json.loads(files[TOKENIZER] or "{}").get("chat_template")
    except (ValueError, AttributeError):
        return None
    # Several templates by name, of which any may show reasoning.
    return template if isinstance(template, str) or not template else json.dumps(template)


def _read(model: str, name: str) -> str | None:
    if Path(model).is_dir():
        path: Path | None = Path(model) / name
    else:
        path = _from_hub(model, name)
    try:
        return path.read_text(encoding="utf-8") if path else None
    except OSError:
        return None


def _from_hub(model: str, name: str) -> Path | None:
    """A file of the hub's cache, downloaded if it is not there; None where it cannot be had."""
    import httpx
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub import try_to_load_from_cache as cached
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        path = cached(model, name)
        if path is None and not constants.HF_HUB_OFFLINE:
            # Without a connection this fails at once; a download would try again for half a minute.
            get_hf_file_metadata(hf_hub_url(model, name), timeout=HUB_SECONDS)
            path = hf_hub_download(model, name)
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError, ValueError):
        return None
    return Path(path) if isinstance(path, str) else None


async def end_of_served(transport: Transport, options: Mapping[str, object]) -> str | None:
    """The end of reasoning of a server's model; None if it has no reasoning section.

    Args:
        transport: to the server.
        options: fields of `/tokenize` for chat messages, which may switch thinking on or off.

    Raises:
        ServerError: the server does not answer, or refuses to render a conversation.
    """
    history = await _rendered(transport, [QUESTION, ANSWERED, QUESTION], options)
    shown = [history.replace(ANSWERED["content"], ""), *await _opened(transport, options)]
    if end := end_in("".join(shown)):
        return end
    return None if REASONING in history else THINK_END


async def _opened(transport: Transport, options: Mapping[str, object]) -> list[str]:
    """Prompts of a question, with thinking as the options have it, on, and off."""
    given = options.get("chat_template_kwargs")
    kwargs = given if isinstance(given, Mapping) else {}
    thinking = [{}, *(dict.fromkeys(SWITCHES, value) for value in (True, False))]
    return [
        await _rendered(
            transport, [QUESTION], {**options, "chat_template_kwargs": {**kwargs, **switch}}
        )
        for switch in thinking
    ]


async def _rendered(
    transport: Transport, messages: Sequence[Mapping[str, str]], options: Mapping[str, object]
) -> str:
    """The prompt that a server makes of messages, special tokens included."""
    from functools import partial

    from eager_sgl.engine.limits import ONCE
    from eager_sgl.engine.protocol import texts_of, tokens_of

    body = {"messages": messages, **options}
    tokens = await transport.post("/tokenize", lambda: body, tokens_of, patience=ONCE)
    answer = {"tokens": [list(tokens)], "skip_special_tokens": False}
    decode = partial(texts_of, number=1)
    return (await transport.post("/detokenize", lambda: answer, decode, patience=ONCE))[0]
