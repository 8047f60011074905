"""A run whose sequences come from a function of the test, and what it wrote."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import jsonlines

from eager_sgl.core import PromptResult, TokenCounts
from eager_sgl.engine.probe import ServerProfile
from evals.config.settings import BUNDLED_MODEL
from evals.execution.calls import Call
from evals.execution.connection import Host, Server
from tests.evals.fakes.build import result

PROFILE = ServerProfile(str(BUNDLED_MODEL), "0.5.23", 1024, 1, "tempered", 1000)
Generate = Callable[..., PromptResult]
Scripted = Callable[..., None]
"""Takes what generates and, with `on`, the server that it is connected to."""


class ScriptedClient:
    """What a run asks of a client besides generating.

    Args:
        is_alive: whether its server answers a short request.
        too_long: words of a prompt that does not fit, and all prompts with them.
    """

    profile = PROFILE

    def __init__(self, *, is_alive: bool = True, too_long: str | None = None) -> None:
        self.is_alive, self.too_long = is_alive, too_long

    async def replicas(self) -> Self:
        return self

    async def call(self, operation: Callable[[Self], Awaitable[Any]]) -> Any:
        return await operation(self)

    def gate(self, method: object) -> None:
        """No gate."""

    def find_gate(self, method: object) -> tuple[None, str]:
        """No gate."""
        return None, "it is scripted"

    async def is_answering(self) -> bool:
        return self.is_alive

    async def encode(self, prompt: list[dict[str, str]]) -> tuple[int, ...]:
        text = prompt[0]["content"]
        return (1,) * (9_999 if self.too_long and self.too_long in text else 7)


def server(
    client: ScriptedClient | None = None, check: Callable[[], None] = lambda: None
) -> Server:
    """A connected server that nothing is sent to."""
    scripted: Any = client or ScriptedClient()
    return Server(scripted, ("http://scripted",), check)


class ScriptedHost(Host):
    """A running server that is connected already."""

    server: Server

    def __init__(self, server: Server) -> None:
        object.__setattr__(self, "server", server)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Server]:
        yield self.server


def in_thread(function: Generate) -> Callable[..., Awaitable[PromptResult]]:
    """A function of a test in place of an asynchronous one; its calls may wait for each other.

    A run that is broken off does not wait for them.
    """

    async def generate(*arguments: Any) -> PromptResult:
        pool = ThreadPoolExecutor(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        finally:
            pool.shutdown(wait=False)

    return generate


def generate(call: Call) -> PromptResult:
    """Two sequences, or one where only one is allowed; the second one gives no answer."""
    texts = ["</think>01+01", "1: no answer"][: call.account.granted]
    call.account.commit(len(texts))
    call.on_progress(TokenCounts(generated=5, prompt=10, cached=9), 2)
    return result(texts, max_sequences=call.method.max_sequences)


def generate_all(call: Call) -> PromptResult:
    """As many sequences as are allowed, the first of them with an answer."""
    texts = ["</think>01+01", *["1: no answer"] * (call.account.granted - 1)]
    call.account.commit(len(texts))
    return result(texts, max_sequences=call.method.max_sequences)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The results of a run as they are written."""
    with jsonlines.open(folder / "results.jsonl") as reader:
        return list(reader)


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """What there is at most one line for."""
    names = ("method", "max_sequences", "threshold", "temperature", "seed", "sample_id")
    how = line["stage_two"] and line["stage_two"]["mode"]
    return (*(line[name] for name in names), how)
