"""Requests that the SGLang server's own OpenAI-compatible routes answer.

Independent sequences need no tree, and whatever a tree cannot do exactly (penalties, grammars,
tools, logprobs) these routes can. Bodies go there as they are; from the answers the cost is read.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
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
from eager_sgl.server.errors import ApiError, of_the_request
from eager_sgl.server.facts import Facts
from eager_sgl.server.plan import AnswerPlan
from eager_sgl.server.schema import Chat, TokenRequest

__all__ = ["Relay"]

_OURS = {"eager", "timeout", "model", "n", "stream", "stream_options", "user"}
_RENAMED = {"include_stop_str_in_output": "no_stop_trim", "add_generation_prompt": None}
"""SGLang's names of vLLM's fields; None for a field that asks for what SGLang does anyway."""
_MAX_EVENT = 2**24
_IDLE_SECONDS = 3.0
"""SGLang closes a connection after five idle seconds; ours are not used for so long."""
_READ = re.compile(rb'"usage":\s*[^\sn]|"error":|\[DONE\]')
"""What makes events be read, and not only passed on."""
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
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),  # clients share the session, and no cookies
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
            is_same = body.model == self._facts.model
            async for chunk in _chunks_of(response, passes_on=is_same):
                if isinstance(chunk, bytes):
                    yield chunk
                    continue
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
        length = body.length_limit or self._facts.profile.context_length
        lease = replicas.lease(plan.num_in_all * length)
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
        with of_the_request():
            data = to_json(self._body(body, plan))
        route = "/v1/chat/completions" if isinstance(body, Chat) else "/v1/completions"
        while True:
            transport = lease.client.transport
            headers = {"Content-Type": "application/json"}
            if transport.api_key:
                headers["Authorization"] = f"Bearer {transport.api_key}"
            try:
                return await self._sent(transport.url + route, data, headers)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                unreachable = ServerUnreachableError(f"{transport.url} does not answer: {error}")
                if not lease.report(unreachable):
                    raise unreachable from error
                await lease.move()

    async def _sent(
        self, url: str, data: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """The response; once more if the server had closed the connection before."""
        try:
            return await self._session.post(url, data=data, headers=headers)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._session.post(url, data=data, headers=headers)

    def _body(self, body: TokenRequest, plan: AnswerPlan) -> Json:
        """The server's request: fields as they were given, and usage always."""
        names = {_RENAMED.get(n, n): n for n in body.given - _OURS}
        given: Json = {theirs: getattr(body, n) for theirs, n in names.items() if theirs}
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


async def _chunks_of(
    response: aiohttp.ClientResponse, *, passes_on: bool
) -> AsyncIterator[Json | bytes]:
    """The JSON values of a stream, or its bytes where nothing in them has to be read.

    Args:
        response: the stream.
        passes_on: whether events may stay as they are.

    Raises:
        ApiError: the server ended the stream with an error, or without its end.
    """
    waiting = b""
    async for part in response.content.iter_any():
        whole, end, waiting = (waiting + part).rpartition(b"\n\n")
        if len(waiting) > _MAX_EVENT:
            raise ApiError(502, f"an event of the SGLang server is longer than {_MAX_EVENT} bytes")
        whole += end
        start = _unread(whole) if passes_on else 0
        if start:
            yield whole[:start]
        for line in whole[start:].splitlines():
            if line.startswith(b"data:"):
                if (data := line[5:].strip()) == b"[DONE]":
                    return
                yield _chunk_of(data)
    raise ApiError(502, "the SGLang server's stream broke off")


def _unread(events: bytes) -> int:
    """The number of bytes before the first event that has to be read."""
    found = _READ.search(events)
    if found is None:
        return len(events)
    before = events.rfind(b"\n\n", 0, found.start())
    return 0 if before < 0 else before + 2


def _chunk_of(data: bytes) -> Json:
    """The JSON value of an event, which is no error."""
    try:
        chunk: Json = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApiError(502, "an event of the SGLang server is no JSON") from error
    if "error" in chunk:
        status = chunk["error"].get("code") if isinstance(chunk["error"], dict) else None
        raise _refusal(status if isinstance(status, int) else 502, data)
    return chunk


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
