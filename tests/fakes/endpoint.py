"""Methods on an endpoint whose requests a scripted server answers."""

from __future__ import annotations

from typing import cast

from eager_sgl import Method, PromptResult, generate
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.engine.transport import Transport
from tests.fakes.scripted import ScriptedServer

__all__ = ["endpoint_of", "run_method"]


def endpoint_of(server: ScriptedServer) -> TokenEndpoint:
    return TokenEndpoint(cast(Transport, server))


def run_method(
    method: Method, backend: TokenEndpoint, prompt: tuple[int, ...] = (9,)
) -> PromptResult:
    result: PromptResult = generate.run(prompt=prompt, method=method, backend=backend).ret_value
    return result
