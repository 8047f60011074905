"""What replicas need of a server's transport and of its token client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from eager_sgl.engine.limits import Patience
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.protocol import Json

__all__ = ["TokenClient", "Transport"]

_T = TypeVar("_T")


class Transport(Protocol):
    url: str

    async def is_answering(self) -> bool: ...
    async def notify(self, path: str, body: Json) -> None: ...
    async def get(self, path: str, decode: Callable[[Any], _T], patience: Patience) -> _T: ...
    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Any], _T],
        *,
        patience: Patience,
    ) -> _T: ...


class TokenClient(Protocol):
    profile: ServerProfile

    @property
    def transport(self) -> Transport: ...
