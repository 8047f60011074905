"""The access log and the metrics of every request: no prompt and no key is written."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eager_sgl.engine.protocol import Json
from eager_sgl.server.traffic.metrics import Metrics

__all__ = ["Access", "Observed"]

_LOG = logging.getLogger("eager_sgl.server.access")
_ROUTES = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics"}
)
_ID = b"x-request-id"
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:=/+-]{1,128}")
_QUIET = frozenset({"/health", "/ready", "/metrics"})
_TEXTS = frozenset({"answer", "votes", "counts"})
"""Fields of the bill with texts that the model has written."""


@dataclass
class Access:
    """The facts about a request that has ended.

    Attributes:
        request_id: in the header `x-request-id` of the answer.
        method: by which it was answered; None where no tokens were asked for.
        bill: of the answer.
        status: of the answer; 499 where the client has left before it began.
        error: the status of an error after a stream has begun.
        first_seconds: from the request to the first part of a streamed answer; None without one.
        has_begun: whether the answer has.
    """

    request_id: str
    method: str | None = None
    bill: Json | None = None
    status: int = 499
    error: int | None = None
    first_seconds: float | None = None
    has_begun: bool = False
    started: float = field(default_factory=time.monotonic)

    def note(self, message: Message) -> None:
        """See a message of the answer."""
        if message["type"] == "http.response.start":
            self.status, self.has_begun = message["status"], True
        elif message.get("body") and message.get("more_body") and self.first_seconds is None:
            self.first_seconds = time.monotonic() - self.started

    def seconds_left(self, limit: float) -> float:
        """The rest of a time that has begun with the request; at least 0."""
        return max(0.0, limit - (time.monotonic() - self.started))

    def line(self, route: str) -> str:
        """The line of the log."""
        entry: Json = {"request_id": self.request_id, "route": route}
        entry["status"] = self.error or self.status
        entry["seconds"] = round(time.monotonic() - self.started, 4)
        if self.method is not None:
            entry["method"] = self.method
        if self.bill is not None:
            details = self.bill["eager"].items()
            entry["usage"] = self.bill["usage"]
            entry["eager"] = {name: value for name, value in details if name not in _TEXTS}
        return orjson.dumps(entry).decode()


def _request_id(scope: Scope) -> str:
    """The client's id if it is short and plain, else one of ours."""
    given = dict(scope["headers"]).get(_ID, b"").decode("latin-1")
    return given if _PLAIN_ID.fullmatch(given) else f"req-{secrets.token_hex(16)}"


class Observed:
    """Counts and logs every request.

    Args:
        app: answers; finds its `Access` in the scope.
        metrics: of the server.
        on_fault: the answer to an exception that `app` lets pass before its answer has begun.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, on_fault: Callable[[Exception], ASGIApp]
    ) -> None:
        self._app, self._metrics, self._on_fault = app, metrics, on_fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["eager_sgl.access"] = access = Access(_request_id(scope))

        async def noting(message: Message) -> None:
            access.note(message)
            if message["type"] == "http.response.start":
                named = (_ID, access.request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), named]}
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            pass  # it left while it sent its body, and nobody waits for an answer
        except Exception as error:
            if access.has_begun:
                raise
            await self._on_fault(error)(scope, receive, noting)
        finally:
            self._end(scope["path"], access)

    def _end(self, path: str, access: Access) -> None:
        route = path if path in _ROUTES else "other"
        self._metrics.requests.labels(route, str(access.error or access.status)).inc()
        if access.bill is not None:
            self._metrics.count(access.bill)
        if access.method is not None:
            self._metrics.seconds.labels(route).observe(time.monotonic() - access.started)
            if access.first_seconds is not None and access.status == 200:
                self._metrics.first_token_seconds.labels(route).observe(access.first_seconds)
        if route not in _QUIET:
            _LOG.info(access.line(route))
