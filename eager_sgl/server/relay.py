"""Requests that the SGLang server's own OpenAI-compatible routes answer.

Independent sequences need no tree, and whatever a tree cannot do exactly (penalties, grammars,
tools, logprobs) these routes can. Bodies go there as they are; from the answers the cost is read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import orjson

from eager_sgl.engine.checks import to_json
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.replicas import Lease
from eager_sgl.errors import ServerUnreachableError
from eager_sgl.generate.client import AsyncClient
from eager_sgl.server.answers import event
from eager_sgl.server.bill import Count, plain_bill
from eager_sgl.server.errors import ApiError
from eager_sgl.server.facts import Facts
from eager_sgl.server.plan import AnswerPlan
from eager_sgl.server.schema import Chat, TokenRequest

__all__ = ["Relay"]

_OURS = {"eager", "timeout", "model", "n", "stream", "stream_options", "user"}
_MAX_LINE = 2**24
_PASSED_ON = (400, 404, 413, 422, 429, 503)
"""Statuses of the SGLang server that say something of the request, or of its load."""


class Relay:
    """Passes requests on to the least loaded server.

    Args:
        client: to the servers.
        facts: of them.
    """

    def __init__(self, client: AsyncClient, facts: Facts) -> None:
        self._client, self._facts = client, facts
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0),
            read_bufsize=_MAX_LINE,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def whole(self, body: TokenRequest, plan: AnswerPlan, count: Count) -> Json:
        """The answer of the server.

        Args:
            count: called with the bill.

        Raises:
            ApiError: the server refused the request, or failed.
            ServerUnreachableError: no server answers.
        """
        started = time.monotonic()
        async with self._response(body, plan) as response:
            answer = await _json_of(response)
        usage = answer.get("usage") or {}
        bill = plain_bill(plan, usage, time.monotonic() - started)
        count({"usage": usage, "eager": bill})
        return answer | {"model": body.model, "eager": bill}

    async def events(
        self, body: TokenRequest, plan: AnswerPlan, count: Count
    ) -> AsyncGenerator[bytes]:
        """The server's events as they arrive, without `[DONE]`.

        The first bytes are empty: the server has accepted the request.
        """
        started = time.monotonic()
        async with self._response(body, plan) as response:
            yield b""
            async for chunk in _chunks_of(response):
                chunk["model"] = body.model
                usage = chunk.get("usage")
                if chunk.get("choices") or not usage:
                    yield event(chunk)
                else:
                    bill = plain_bill(plan, usage, time.monotonic() - started)
                    count({"usage": usage, "eager": bill})
                    yield event(chunk | {"eager": bill}) if body.wants_usage else b""

    @asynccontextmanager
    async def _response(
        self, body: TokenRequest, plan: AnswerPlan
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The server's response with status 200; leaving it early ends the request there."""
        replicas = await self._client.replicas()
        lease = replicas.lease(max(1, plan.num_sequences * (body.length_limit or 1)))
        try:
            async with await self._post(lease, body, plan) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(502, "the SGLang server's answer broke off") from error
        finally:
            lease.close()

    async def _post(
        self, lease: Lease, body: TokenRequest, plan: AnswerPlan
    ) -> aiohttp.ClientResponse:
        """The response of the first server that answers."""
        data = to_json(self._body(body, plan))
        route = "/v1/chat/completions" if isinstance(body, Chat) else "/v1/completions"
        while True:
            transport = lease.client.transport
            headers = {"Content-Type": "application/json"}
            if transport.api_key:
                headers["Authorization"] = f"Bearer {transport.api_key}"
            try:
                return await self._session.post(transport.url + route, data=data, headers=headers)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                unreachable = ServerUnreachableError(f"{transport.url} does not answer: {error}")
                if not lease.report(unreachable):
                    raise unreachable from error
                await lease.move()

    def _body(self, body: TokenRequest, plan: AnswerPlan) -> Json:
        """The server's request: fields as they were given, and usage always."""
        given: Json = {n: getattr(body, n) for n in body.given - _OURS}
        given |= {"model": self._facts.model, "n": plan.num_sequences}
        if body.stream:
            given |= {"stream": True, "stream_options": {"include_usage": True}}
        return given


async def _json_of(response: aiohttp.ClientResponse) -> Json:
    try:
        answer: Any = orjson.loads(await response.read())
    except orjson.JSONDecodeError as error:
        raise ApiError(502, "the SGLang server's answer is no JSON") from error
    if not isinstance(answer, dict):
        raise ApiError(502, "the SGLang server's answer is no JSON object")
    return answer


async def _chunks_of(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """The JSON values of a stream.

    Raises:
        ApiError: the server ended the stream with an error, or without its end.
    """
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            chunk: Json = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise ApiError(502, "an event of the SGLang server is no JSON") from error
        if "error" in chunk:
            status = chunk["error"].get("code") if isinstance(chunk["error"], dict) else None
            raise _refusal(status if isinstance(status, int) else 502, data)
        yield chunk
    raise ApiError(502, "the SGLang server's stream broke off")


def _refusal(status: int, data: bytes) -> ApiError:
    """The error for a status of the SGLang server."""
    message = "no message"
    with suppress(orjson.JSONDecodeError, AttributeError):
        content = orjson.loads(data)
        nested = content.get("error")
        source = nested if isinstance(nested, dict) else content
        message = source.get("message") or source.get("detail") or message
    if status in _PASSED_ON:
        return ApiError(400 if status == 422 else status, f"SGLang: {message}")
    return ApiError(502, f"the SGLang server failed (HTTP {status}): {message}")
