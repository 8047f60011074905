"""Servers that are up or down at a test's wish, in place of transports and token clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from eager_sgl.engine.limits import Patience
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.replicas import Replicas
from eager_sgl.engine.replicas.servers import Transport
from eager_sgl.errors import ServerUnreachableError

_T = TypeVar("_T")


class FakeServer:
    """A server that answers what connecting asks for.

    Attributes:
        is_up: whether it answers; if not, requests fail at once.
        logprob: of every input token.
        num_generated: requests that it generated tokens for.
        aborted: request ids that it was asked to abort.
    """

    def __init__(self, url: str, logprob: float = -1.0, version: str = "default") -> None:
        self.url = url
        self.is_up = True
        self.logprob, self.version = logprob, version
        self.profile = ServerProfile("model", "0.5.23", 1000, 1, "tempered", 100)
        self.num_generated = 0
        self.aborted: list[str] = []

    async def is_answering(self) -> bool:
        return self.is_up

    async def notify(self, path: str, body: Json) -> None:
        assert path == "/abort_request", path
        if self.is_up:
            self.aborted.append(body["rid"])

    async def get(self, path: str, decode: Callable[[Any], _T], patience: Patience) -> _T:
        self.require_up()
        return decode({"weight_version": self.version})

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Any], _T],
        *,
        patience: Patience,
    ) -> _T:
        await asyncio.sleep(0)
        self.require_up()
        return decode({"tokens": [1]} if path == "/tokenize" else self._generate(build()))

    def _generate(self, body: Json) -> Json:
        self.num_generated += 1
        inputs = [[self.logprob, token, None] for token in body["input_ids"]]
        meta = {"finish_reason": {"type": "length"}, "input_token_logprobs": inputs}
        return {"output_ids": [1] * body["sampling_params"]["max_new_tokens"], "meta_info": meta}

    def require_up(self) -> None:
        if not self.is_up:
            raise ServerUnreachableError(f"cannot reach an SGLang server at {self.url}: refused")


class FakeClient:
    """The token client of such a server."""

    def __init__(self, server: FakeServer) -> None:
        self.transport, self.profile = server, server.profile


async def connect_fake(transport: Transport) -> FakeClient:
    assert isinstance(transport, FakeServer)
    transport.require_up()
    return FakeClient(transport)


def servers(number: int) -> list[FakeServer]:
    return [FakeServer(f"http://replica-{index}") for index in range(number)]


async def connected(*replicas: FakeServer) -> Replicas:
    return await Replicas.connect(replicas, connect_fake)
