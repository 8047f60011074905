"""Keys, the size of bodies, and clients that leave."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from eager_sgl.server.errors import ApiError

__all__ = ["Keys", "body_within", "while_connected"]

_T = TypeVar("_T")

Receive = Callable[[], Awaitable[Any]]


class Keys:
    """The bearer keys; without any, every request may pass.

    Args:
        keys: in plain text; kept as digests.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def require(self, authorization: str | None) -> int:
        """Check a header in a time that does not depend on how much of a key is right.

        Returns:
            The index of the key; 0 where none is needed.

        Raises:
            ApiError: the key is missing or wrong.
        """
        index = self._index(authorization)
        if index is None:
            message = "the API key is missing or wrong; send Authorization: Bearer KEY"
            raise ApiError(401, message, code="invalid_api_key")
        return index

    def admits(self, authorization: str | None) -> bool:
        """Whether a header has a key, if one is needed."""
        return self._index(authorization) is not None

    def _index(self, authorization: str | None) -> int | None:
        if not self._digests:
            return 0
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return matches.index(True) if scheme.lower() == "bearer" and any(matches) else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


async def body_within(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The body of a request, read no further and no longer than allowed.

    Raises:
        ApiError: it is longer, or has not arrived in time.
        ClientDisconnect: the client has left before its end.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, max_bytes)
    except TimeoutError:
        message = f"the body has not arrived within {seconds:g} s; send it faster"
        raise ApiError(408, message, code="too_slow") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    error = ApiError(413, f"the body is longer than {max_bytes} bytes", code="too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise error
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > max_bytes:
            raise error
    return bytes(data)


async def while_connected(receive: Receive, work: Awaitable[_T]) -> _T | None:
    """The value of an awaitable, which is cancelled when the client leaves; None then."""
    task = asyncio.current_task()
    assert task is not None
    has_left = asyncio.Event()
    watch = asyncio.create_task(_cancel_on_disconnect(receive, task, has_left))
    try:
        return await work
    except asyncio.CancelledError:
        if not has_left.is_set() or task.uncancel() > 0:
            raise  # somebody else has cancelled the task
        return None
    finally:
        watch.cancel()


async def _cancel_on_disconnect(
    receive: Receive, task: asyncio.Task[Any], has_left: asyncio.Event
) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    has_left.set()
    task.cancel()
