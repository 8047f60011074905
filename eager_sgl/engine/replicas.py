"""The servers of one client, all with the same model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.transport import Transport

__all__ = ["Lease", "Replicas"]

_T = TypeVar("_T")


class Replicas:
    """Servers of the same model."""

    def __init__(self, clients: Sequence[TokenClient]) -> None:
        self._clients = list(clients)

    @classmethod
    async def connect(
        cls,
        transports: Sequence[Transport],
        chat_options: Mapping[str, object] | None = None,
    ) -> Replicas:
        connecting = (TokenClient.connect(transport, chat_options) for transport in transports)
        return cls(await asyncio.gather(*connecting))

    @property
    def profile(self) -> ServerProfile:
        return self._clients[0].profile

    async def call(self, operation: Callable[[TokenClient], Awaitable[_T]]) -> _T:
        return await operation(self._clients[0])

    def lease(self, expected_tokens: int, on_down: Callable[[], None]) -> Lease:
        return Lease(self._clients[0])

    async def aclose(self) -> None:
        for client in self._clients:
            await client.transport.aclose()


class Lease:
    """A tree's place on a replica."""

    def __init__(self, client: TokenClient) -> None:
        self.client = client

    def add(self, tokens: int) -> None: ...

    def remove(self, tokens: int) -> None: ...

    def report(self, error: Exception) -> bool:
        """Whether the tree can move to another replica after this error."""
        return False

    async def move(self, running: Sequence[str]) -> None: ...

    def close(self) -> None: ...
