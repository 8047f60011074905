"""Methods on an endpoint whose requests a scripted server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eager_sgl import Method, PromptResult, SamplingConfig
from eager_sgl.config import REASONING_END
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.frontend.endpoint import Prompt, TokenEndpoint
from eager_sgl.engine.loop import run
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.resuming import resume
from tests.fakes.scripted import ScriptedServer

__all__ = ["endpoint_of", "resume_method", "run_method", "run_together"]


def endpoint_of(server: ScriptedServer, **options: Any) -> TokenEndpoint:
    return TokenEndpoint(run(TokenClient.connect(server, **options)))


def run_method(
    method: Method, backend: TokenEndpoint, prompt: Prompt = (9,), **options: Any
) -> PromptResult:
    return run(grow(backend.replicas, prompt, method, **options))


def run_together(
    method: Method, backend: TokenEndpoint, prompts: Sequence[Prompt]
) -> list[PromptResult]:
    """The results of prompts that run at the same time."""

    async def gathered() -> list[PromptResult]:
        return await asyncio.gather(*(grow(backend.replicas, prompt, method) for prompt in prompts))

    return run(gathered())


def resume_method(
    backend: TokenEndpoint,
    prompt: Prompt,
    result: PromptResult,
    num_sequences: int,
    sampling: SamplingConfig,
    *,
    threshold: float = 0.0,
    **options: Any,
) -> PromptResult:
    given: Any = {"threshold": threshold, "reasoning_end": REASONING_END} | options
    return run(resume(backend.replicas, prompt, result, num_sequences, sampling, **given))
