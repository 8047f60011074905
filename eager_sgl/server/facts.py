"""What the SGLang servers serve: the model's name, its sampling defaults, its reasoning parser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.protocol import Json
from eager_sgl.generate.client import AsyncClient
from eager_sgl.server.errors import ApiError

__all__ = ["ALWAYS_REASONING", "CHAT_DEFAULTS", "THINK_PARSERS", "Facts", "facts_of"]

ALWAYS_REASONING = frozenset(
    {"deepseek-r1", "gigachat35", "minimax", "qwen3-thinking", "step3", "step3p5"}
)
"""SGLang's reasoning parsers of models that begin with their reasoning, also without `<think>`."""
THINK_PARSERS = ALWAYS_REASONING | {"dots", "glm45", "interns1", "nanbeige", "nemotron_3", "qwen3"}
"""SGLang's reasoning parsers of models that close their reasoning with `</think>`."""
CHAT_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""The sampling parameters of which a model's `generation_config.json` may have its own defaults."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the SGLang servers serve.

    Attributes:
        model: its name.
        profile: of the servers.
        chat_defaults: the sampling parameters of chats that do not give them, where they differ
            from OpenAI's; None if they are not known.
        reasoning_parser: by which the server splits `reasoning_content` off; None if it does not.
        tool_call_parser: by which the server reads calls of tools; None if it does not.
        max_total_tokens: that a prompt and the answer that is asked for may have together; None
            where the server shortens either (`--allow-auto-truncate`).
    """

    model: str
    profile: ServerProfile
    chat_defaults: Mapping[str, float] | None = None
    reasoning_parser: str | None = None
    tool_call_parser: str | None = None
    max_total_tokens: int | None = None

    def require_fitting(self, num_prompt_tokens: int, length_limit: int | None) -> None:
        """Refuse an answer for which the context leaves no room, in the words of SGLang 0.5.23.

        Args:
            length_limit: of a sequence in tokens; None for the rest of the context.

        Raises:
            ApiError: the prompt and the limit are more than the context.
        """
        total, most = num_prompt_tokens + (length_limit or 0), self.max_total_tokens
        if most is None or length_limit is None or total <= most:
            return
        raise ApiError(
            400,
            f"Requested token count exceeds the model's maximum context length of {most} tokens. "
            f"You requested a total of {total} tokens: {num_prompt_tokens} tokens from the input "
            f"messages and {length_limit} tokens for the completion. Please reduce the number of "
            "tokens in the input messages or the completion to fit within the limit.",
            "max_tokens",
        )


async def facts_of(client: AsyncClient, chat_defaults: Mapping[str, float] | None = None) -> Facts:
    """The facts of the connected servers.

    Args:
        client: to them.
        chat_defaults: where the operator gives them; else those of the model's folder, if this
            machine can read it.

    Raises:
        ServerError: no server answers.
    """
    replicas = await client.replicas()
    model: Json = await replicas.call(lambda c: c.transport.get("/model_info"))
    server: Json = await replicas.call(lambda c: c.transport.get("/server_info"))
    max_total_tokens = await _smallest_context(client, replicas.down)
    if chat_defaults is None:
        chat_defaults = _defaults_of(server, Path(replicas.profile.model_path))
    return Facts(
        model=model.get("served_model_name") or replicas.profile.model_path,
        profile=replicas.profile,
        chat_defaults=chat_defaults,
        reasoning_parser=model.get("reasoning_parser"),
        tool_call_parser=server.get("tool_call_parser"),
        max_total_tokens=None if server.get("allow_auto_truncate") else max_total_tokens,
    )


async def _smallest_context(client: AsyncClient, down: Container[str]) -> int:
    """Tokens of a prompt and its answer on every server that is up."""
    up = [transport for transport in client.transports if transport.url not in down]
    answers: list[Json] = await asyncio.gather(*(server.get("/v1/models") for server in up))
    return min(int(served["data"][0]["max_model_len"]) for served in answers)


def _defaults_of(server: Mapping[str, Any], folder: Path) -> dict[str, float] | None:
    """The sampling defaults of chats, as SGLang reads them; None if they are not known."""
    if server.get("sampling_defaults") == "openai":
        return {}
    if not folder.is_dir():
        return None
    path = folder / "generation_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    return {name: config[name] for name in CHAT_DEFAULTS if config.get(name) is not None}
