"""EAGer-init on a scripted server, with limits that its short sequences meet."""

from __future__ import annotations

from typing import Any

from eager_sgl import EagerConfig, EagerInit, Method, PromptResult, SamplingConfig
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

__all__ = ["config_of", "gated", "run", "run_restarted"]


def config_of(**arguments: Any) -> EagerConfig:
    sampling = SamplingConfig(temperature=0.8, top_p=0.8, max_new_tokens=9)
    defaults = {"threshold": 1.2, "top_k": VOCABULARY, "max_sequences": 4, "chunk_tokens": 4}
    return EagerConfig(**(defaults | {"sampling": sampling} | arguments))


def run(server: ScriptedServer, **arguments: Any) -> PromptResult:
    """EAGer-init with `config_of(**arguments)`."""
    return run_restarted(server, EagerInit(config_of(**arguments)))


def run_restarted(server: ScriptedServer, method: Method) -> PromptResult:
    """A method on the server's prompt, from its first draws on."""
    endpoint = endpoint_of(server)
    server.restart(seed=0)
    return run_method(method, endpoint, server.prompt)


def gated(model: int = 42) -> ScriptedServer:
    return ScriptedServer(mixed_distribution(model), allows_gate=True)
