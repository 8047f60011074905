"""The access log and the metrics of every request: no prompt and no key is written."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eager_sgl.engine.protocol import Json
from eager_sgl.server.traffic.metrics import Metrics

__all__ = ["Access", "Observed"]

_LOG = logging.getLogger("eager_sgl.server.access")
_ROUTES = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics"}
)
_QUIET = frozenset({"/health", "/ready", "/metrics"})


@dataclass
class Access:
    """The facts about a request that has ended.

    Attributes:
        method: by which it was answered; None where no tokens were asked for.
        bill: of the answer.
        status: of the answer; 499 where the client has left before it began.
        error: the status of an error after a stream has begun.
        first_seconds: from the request to the first part of the answer's body.
    """

    method: str | None = None
    bill: Json | None = None
    status: int = 499
    error: int | None = None
    first_seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    def note(self, message: Message) -> None:
        """See a message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body") and self.first_seconds is None:
            self.first_seconds = time.monotonic() - self.started

    def line(self, route: str) -> str:
        """The line of the log."""
        entry: Json = {"route": route, "status": self.error or self.status}
        entry["seconds"] = round(time.monotonic() - self.started, 4)
        if self.method is not None:
            entry["method"] = self.method
        if self.bill is not None:
            entry |= {"usage": self.bill["usage"], "eager": self.bill["eager"]}
        return orjson.dumps(entry).decode()


class Observed:
    """Counts and logs every request.

    Args:
        app: answers; finds its `Access` in the scope.
        metrics: of the server.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["eager_sgl.access"] = access = Access()

        async def noting(message: Message) -> None:
            access.note(message)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._end(scope["path"], access)

    def _end(self, path: str, access: Access) -> None:
        route = path if path in _ROUTES else "other"
        self._metrics.requests.labels(route, str(access.error or access.status)).inc()
        if access.method is not None:
            self._metrics.seconds.labels(route).observe(time.monotonic() - access.started)
            if access.first_seconds is not None and access.status == 200:
                self._metrics.first_token_seconds.labels(route).observe(access.first_seconds)
        if route not in _QUIET:
            _LOG.info(access.line(route))
