"""The routes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from eager_sgl.engine.addresses import require_url
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import ServerUnreachableError
from eager_sgl.server.answers import DONE, event
from eager_sgl.server.errors import ApiError, api_error_of, of_the_request
from eager_sgl.server.plan import METHOD_NAMES, AnswerPlan, plan_of
from eager_sgl.server.schema import Chat, Completion, TokenRequest, body_of
from eager_sgl.server.settings import KEYS_VARIABLE, EndpointSettings
from eager_sgl.server.traffic.access import Access, Observed
from eager_sgl.server.traffic.admission import Admission
from eager_sgl.server.traffic.guard import Keys, body_within, while_connected
from eager_sgl.server.traffic.metrics import Metrics
from eager_sgl.server.traffic.readiness import (
    Obstacle,
    obstacle_of,
    still_in_the_way,
    unanswered,
)
from eager_sgl.server.upstream import Upstream

__all__ = ["create_app"]

_LOG = logging.getLogger("eager_sgl.server")
_RETRY_SECONDS = 2.0
_LAST_SECONDS = 30.0
"""In which a client can take the last part of an answer, also when its deadline has passed."""
_BODIES: Mapping[str, type[TokenRequest]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
}
"""The routes that generate, and their bodies."""


class Service:
    """What the routes share; connected while the application runs.

    Args:
        settings: of the server.

    Raises:
        ValueError: the URL of an SGLang server is invalid.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        for url in settings.servers:
            require_url(url)
        self.settings = settings
        if not settings.keys:
            _LOG.info("no key is asked for; name clients' keys by --keys-file or %s", KEYS_VARIABLE)
        self.keys = Keys(settings.keys)
        self.admission = Admission(settings.max_requests, settings.max_in_flight)
        self.metrics = Metrics()
        self._upstream: Upstream | None = None
        self._obstacle = unanswered(settings)
        self._noted: Obstacle | None = None

    @property
    def upstream(self) -> Upstream:
        """The SGLang servers, for callers with a key.

        Raises:
            ApiError: none has answered yet, or one cannot be used.
        """
        if self._upstream is None:
            raise self._obstacle.refusal(has_key=True)
        return self._upstream

    @contextlib.asynccontextmanager
    async def connected(self, app: FastAPI) -> AsyncIterator[None]:
        """Connect to the SGLang servers, which may start later than this one.

        Raises:
            ServerError: a server answers, and cannot be used.
        """
        try:
            self._upstream = await Upstream.connect(self.settings)
        except ServerUnreachableError as error:
            await self._note_error(error)
        connecting = asyncio.create_task(self._connect())
        try:
            yield
        finally:
            connecting.cancel()
            await asyncio.wait({connecting})
            if self._upstream is not None:
                await self._upstream.aclose()

    async def _connect(self) -> None:
        """Connect once a server answers and can be used."""
        while self._upstream is None:
            await asyncio.sleep(_RETRY_SECONDS)
            if (present := await still_in_the_way(self.settings, self._obstacle)) is not None:
                self._note(present, present.detail)
                continue
            try:
                self._upstream = await Upstream.connect(self.settings)
            except Exception as error:  # whatever a server's answers have led to
                await self._note_error(error)

    async def _note_error(self, error: Exception) -> None:
        obstacle = await obstacle_of(self.settings, error)
        if api_error_of(error).status != 500:
            return self._note(obstacle, error)
        return self._note(obstacle, f"{type(error).__name__}: {error}", error)

    def _note(self, obstacle: Obstacle, error: object, fault: Exception | None = None) -> None:
        """Keep why there are no servers, for answers, and log it once while it lasts.

        Args:
            error: for the log.
            fault: one of this server, whose trace is for the log too; None for another error.
        """
        if obstacle != self._noted:
            _LOG.warning("%s; it is tried again", error, exc_info=fault)
        self._obstacle = self._noted = obstacle

    async def answering(self, request: Request, kind: type[TokenRequest]) -> _Answering:
        """The answer to a request for tokens, before it has begun.

        Raises:
            ApiError: the request is refused.
        """
        key = self.keys.require(request.headers.get("authorization"))
        settings = self.settings
        data = await body_within(request, settings.max_body_bytes, settings.deadline_s)
        body = body_of(kind, data)
        upstream = self.upstream
        with of_the_request():
            plan = plan_of(body, upstream.facts, settings.limits, upstream.tools)
        access: Access = request.scope["eager_sgl.access"]
        access.method = plan.name
        return _Answering(self, body, plan, key, access)

    def models(self) -> list[Json]:
        """The served model, by its name and with every method."""
        facts = self.upstream.facts
        name, length = facts.model, facts.profile.context_length
        names = [name, *(f"{name}:{method}" for method in METHOD_NAMES)]
        return [
            {"id": n, "object": "model", "created": 0, "owned_by": "sglang"}
            | {"root": name, "max_model_len": length}
            for n in names
        ]

    async def require_ready(self, authorization: str | None) -> None:
        """Check that a server answers.

        Args:
            authorization: the header of the caller, who reads texts of servers with a key only.

        Raises:
            ApiError: none does.
        """
        if self._upstream is not None:
            client = self._upstream.client
            if await client.is_answering():
                self._noted = None
                return
            obstacle = unanswered(self.settings, "no SGLang server answers")
            self._note(obstacle, obstacle.detail)
        raise self._obstacle.refusal(has_key=self.keys.admits(authorization))

    async def metrics_text(self) -> bytes:
        """All metrics."""
        self.metrics.note_replicas(await self._replica_states())
        self.metrics.in_flight.set(self.admission.num_requests)
        self.metrics.waiting.set(self.admission.num_waiting)
        self.metrics.sequences_in_flight.set(self.admission.num_sequences)
        return self.metrics.text()

    async def _replica_states(self) -> dict[str, bool]:
        """Whether each SGLang server answers, by URL; empty before one has."""
        if self._upstream is None:
            return {}
        client = self._upstream.client
        down = (await client.replicas()).down
        return {transport.url: transport.url not in down for transport in client.transports}


class _Answering:
    """Generates, and sends the answer.

    Args:
        key: of the client, for the order of requests.
        access: the facts for the log.
    """

    def __init__(
        self, service: Service, body: TokenRequest, plan: AnswerPlan, key: int, access: Access
    ) -> None:
        self._service, self._body, self._plan = service, body, plan
        self._key, self._access = key, access
        upstream = service.upstream
        self._source = upstream.relay if plan.method is None else upstream.trees
        self._has_started = False

    async def run(self, send: Send) -> None:
        """Answer; the last part is sent when others may have the request's place.

        A client that has the whole answer may send the next request at once.

        Raises:
            ApiError: nothing has been sent yet, and there is no answer.
        """
        limit = min(self._service.settings.deadline_s, self._body.timeout or float("inf"))
        loop = asyncio.get_running_loop()
        end = loop.time() + self._access.seconds_left(limit)
        try:
            async with (
                asyncio.timeout_at(end),
                self._service.admission.admit(self._key, self._plan.max_in_flight),
            ):
                last = await (self._stream(send) if self._body.stream else self._whole())
        except Exception as error:
            refusal = api_error_of(error)
            if refusal.status >= 500:
                _LOG.warning("%s: %s", type(error).__name__, error, exc_info=refusal.status == 500)
            if not self._has_started:
                raise refusal from error
            self._access.error = refusal.status
            last = event(refusal.body) + DONE
        try:
            async with asyncio.timeout_at(max(end, loop.time() + _LAST_SECONDS)):
                await self._send_last(send, last)
        except TimeoutError:  # returning before the end closes the connection
            self._access.error = 504

    async def _send_last(self, send: Send, last: bytes) -> None:
        """Send the last part of a stream, or all of another answer."""
        if not self._has_started:
            length = str(len(last)).encode()
            kinds = [(b"content-type", b"application/json"), (b"content-length", length)]
            await _start(send, kinds)
        await _send_part(send, last, more=False)

    async def _whole(self) -> bytes:
        """The body of the answer."""
        answer = await self._source.whole(self._body, self._plan, self._count)
        return orjson.dumps(answer)

    async def _stream(self, send: Send) -> bytes:
        """Send all events but the last one, which is returned."""
        source_events = self._source.events(self._body, self._plan, self._count)
        async with contextlib.aclosing(source_events) as events:
            await anext(events)
            kinds = (b"content-type", b"text/event-stream; charset=utf-8")
            await _start(send, [kinds, (b"cache-control", b"no-cache")])
            self._has_started = True
            async for data in events:
                if data:
                    await _send_part(send, data)
        return DONE

    def _count(self, bill: Json) -> None:
        """Note the bill, which is counted after the answer."""
        self._access.bill = bill


@dataclass(frozen=True)
class _Generation:
    """The ASGI application of a route that generates, which FastAPI's own routes would slow down.

    Attributes:
        service: of the server.
        kind: of the bodies.
    """

    service: Service
    kind: type[TokenRequest]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; the request ends with its client's connection."""
        answering = await self.service.answering(Request(scope, receive), self.kind)
        await while_connected(receive, answering.run(send))


async def _start(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_part(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


def create_app(settings: EndpointSettings) -> FastAPI:
    """The ASGI application."""
    service = Service(settings)
    generation: list[BaseRoute] = [
        Route(path, _Generation(service, kind), methods=["POST"]) for path, kind in _BODIES.items()
    ]
    app = _Application(title="eager_sgl", lifespan=service.connected, routes=generation)
    app.add_middleware(Observed, metrics=service.metrics, on_fault=_response_to_fault)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    _add_facts(app, service)
    return app


class _Application(FastAPI):
    """An application whose OpenAPI document has the routes that generate, and their bodies."""

    def openapi(self) -> Json:
        """The document."""
        document = super().openapi()
        document["paths"] |= {path: {"post": _operation(kind)} for path, kind in _BODIES.items()}
        document.setdefault("components", {}).setdefault("schemas", {}).update(_models())
        return document


def _add_facts(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models(request: Request) -> Json:
        service.keys.require(request.headers.get("authorization"))
        return {"object": "list", "data": service.models()}

    @app.get("/v1/models/{model:path}")
    async def model(request: Request, model: str) -> Json:
        service.keys.require(request.headers.get("authorization"))
        for known in service.models():
            if known["id"] == model:
                return known
        raise ApiError(404, f"there is no model {model!r}", "model", "model_not_found")

    @app.get("/health")
    async def health() -> Json:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready(request: Request) -> Json:
        await service.require_ready(request.headers.get("authorization"))
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        text = await service.metrics_text()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


_SCHEMAS = "#/components/schemas/{model}"


def _models() -> Json:
    """The schemas of the bodies and of their fields, by name."""
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in _BODIES.values()], ref_template=_SCHEMAS
    )
    models: Json = schemas["$defs"]
    return models


def _operation(kind: type[TokenRequest]) -> Json:
    """A route that generates, for OpenAPI; its bodies are checked so that errors have our form."""
    schema = {"$ref": _SCHEMAS.format(model=kind.__name__)}
    return {
        "summary": f"{kind.__name__} of a model",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "The answer, whole or as server-sent events."}},
    }


def _response_to_fault(error: Exception) -> Response:
    _LOG.error("%s: %s", type(error).__name__, error, exc_info=error)
    refusal = api_error_of(error)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(ApiError(error.status_code, text).body, error.status_code, error.headers)
