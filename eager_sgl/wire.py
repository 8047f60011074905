"""SGLang's HTTP protocol (measured on 0.5.23): requests built, answers parsed, faults named.

Nothing here imports sglang, and no tuple or dictionary of the server passes beyond this file.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import os
import threading
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

import aiohttp
import numpy as np
import orjson

from eager_sgl.core import FinishReason, Generation, TopLogprobs
from eager_sgl.errors import (
    AuthenticationError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
)

__all__ = [
    "GATE_REPORT",
    "Transport",
    "gate_reports",
    "generate_payload",
    "matched_stop_token",
    "new_request_id",
    "parse_generation",
    "require_url",
]

Json = dict[str, Any]
_T = TypeVar("_T")
Progress = Callable[[Json], None]

GATE_REPORT = "eager_gate"
"""What the entropy gate calls its report among a request's `meta_info`."""
_FINISH_REASONS: dict[str | None, FinishReason | None] = {
    None: None,
    "stop": "stop",
    "length": "length",
    "abort": "length",
}
_RETRY_PAUSES = (0.2, 1.0)
_CONNECT_TIMEOUT = 10.0
TIMEOUT = 3600.0
"""Seconds: a sequence's last request may decode tens of thousands of tokens before it answers."""
_NOTIFY_TIMEOUT = 2.0
_OVERLOADED = (429, 503)
_EVENT_START, _EVENT_END, _DONE = b"data: ", b"\n\n", b"data: [DONE]"
_IO_THREAD = "eager_sgl.io"
_running: set[asyncio.Task[None]] = set()


def new_request_id() -> str:
    """A `rid` that no other request has."""
    return f"eager-{uuid.uuid4().hex}"


def generate_payload(
    input_ids: Sequence[int],
    sampling_params: Mapping[str, object],
    *,
    request_id: str,
    top_logprobs: int = 0,
    processor: str | None = None,
) -> Json:
    """The body of `/generate`.

    Args:
        input_ids: the whole path; what of it is cached, the server finds out.
        sampling_params: SGLang's own names and values.
        request_id: the `rid`, for `/abort_request`.
        top_logprobs: K; 0 asks for no logprobs at all.
        processor: text of a custom logit processor, whose parameters are among the others; the
            answer is then a stream.
    """
    payload: Json = {
        "rid": request_id,
        "input_ids": list(input_ids),
        "sampling_params": dict(sampling_params),
    }
    if processor is not None:
        payload |= {"custom_logit_processor": processor, "stream": True}
    if top_logprobs:
        # Flat base64 arrays are half the bytes of nested lists, and need no Python loop to read.
        payload |= {
            "return_logprob": True,
            "top_logprobs_num": top_logprobs,
            "return_flat_raw_output_top_logprobs": True,
            "return_flat_raw_top_logprobs_b64": True,
        }
    return payload


def parse_generation(
    answer: Json,
    *,
    logprob_temperature: float,
    gate_top_k: int = 0,
    may_be_aborted: bool = False,
) -> Generation:
    """The answer of `/generate`, or what a stream brings before it.

    Args:
        answer: the decoded body.
        logprob_temperature: of the distribution that the server's logprobs belong to.
        gate_top_k: K of the request's gate; 0 where it has none.
        may_be_aborted: whether it was we who aborted it; what came until then is its answer.

    Raises:
        ServerError: the request was aborted on the server.
    """
    meta = answer["meta_info"]
    reason = meta["finish_reason"] or {"type": None}
    if reason["type"] == "abort" and not may_be_aborted:
        raise ServerError(f"the server aborted a request: {reason.get('message', 'no reason')}")
    top, logprobs, told = None, None, None
    if "output_token_logprobs" in meta:
        logprobs = np.array([row[0] for row in meta["output_token_logprobs"]], dtype=np.float32)
    if "output_top_logprobs_shape" in meta:
        top = TopLogprobs(
            token_ids=_flat_array(meta, "output_top_logprobs_idx_flat_b64"),
            logprobs=_flat_array(meta, "output_top_logprobs_val_flat_b64"),
            temperature=logprob_temperature,
        )
    if gate_top_k:
        told, top = gate_reports(meta, gate_top_k)
    return Generation(
        token_ids=tuple(answer["output_ids"]),
        finish_reason=_FINISH_REASONS[reason["type"]],
        # Neither is there where a request was aborted before its turn.
        prompt_tokens=meta.get("prompt_tokens", 0),
        cached_tokens=meta.get("cached_tokens", 0),
        logprobs=logprobs,
        top=top,
        told=told,
    )


def gate_reports(meta: Json, top_k: int) -> tuple[tuple[int, ...], TopLogprobs]:
    """The steps that the entropy gate tells of: their places in the answer, and what they were."""
    # SGLang pads what requests do not have with None.
    reports = [report for report in meta.get(GATE_REPORT, ()) if report]
    if not reports:
        return (), TopLogprobs(np.empty((0, top_k), np.int32), np.empty((0, top_k), np.float32), 1)
    places, token_ids, logprobs = zip(*reports, strict=True)
    return places, TopLogprobs(
        token_ids=np.array(token_ids, dtype=np.int32),
        logprobs=np.array(logprobs, dtype=np.float32),
        temperature=1.0,
    )


def _flat_array(meta: Json, key: str) -> np.ndarray[Any, Any]:
    array = np.frombuffer(base64.b64decode(meta[key]), dtype=np.dtype(meta[f"{key}_dtype"]))
    return array.reshape(meta["output_top_logprobs_shape"])


def matched_stop_token(answer: Json) -> int | None:
    """The EOS or stop token that ended a generation; None if something else did."""
    matched = answer["meta_info"]["finish_reason"].get("matched")
    return matched if isinstance(matched, int) else None


class Transport:
    """Requests to one server over kept-alive connections; safe to use from many threads.

    All connections of a process are served by one thread, whatever their number: a request that
    waits for its answer costs a socket and a few objects.

    Args:
        url: base URL of the server.
        api_key: sent as a bearer token.
        timeout: seconds to wait for an answer.
        router: base URL of what passes `/generate` on to one of several replicas, of which the
            server is one; None where there is one server.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        router: str | None = None,
    ) -> None:
        require_url(url)
        require_url(router or url)
        self.url = url.rstrip("/")
        self.has_router = router is not None
        self._router = (router or url).rstrip("/")
        self.api_key = api_key
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._loop = io_loop()
        self._session = self._run(self._open_session())
        weakref.finalize(self, _close, self._session, self._loop)
        _raise_file_limit()

    async def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=self._timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def notify(self, path: str, body: Json) -> None:
        """Send a POST whose answer does not matter, once and without waiting long for it."""
        work = self._exchange("POST", self.url + path, orjson.dumps(body))
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            self._run(asyncio.wait_for(work, _NOTIFY_TIMEOUT))

    def get(self, path: str) -> Json:
        """The decoded answer to a GET.

        Raises:
            ServerError: see the subclasses in `eager_sgl.errors`.
        """
        return self._run(self._retrying("GET", path, lambda: None))

    def post(self, path: str, build: Callable[[], Json], progress: Progress | None = None) -> Json:
        """The decoded answer to a POST.

        A request that got no answer at all (connection refused or reset, server overloaded) is
        sent again, twice: nothing of it has reached us, so drawing anew leaves the distribution as
        it is. A time-out is not: the next try would wait as long.

        Args:
            path: begins with a slash.
            build: makes the body, anew for every try, so that each has a request id of its own.
            progress: gets what a stream brings before its last answer, which is returned.

        Raises:
            ServerError: see the subclasses in `eager_sgl.errors`.
        """
        return self._run(self._retrying("POST", path, build, progress))

    def start(
        self,
        path: str,
        build: Callable[[], Json],
        done: Callable[[Json | Exception], None],
        progress: Progress | None = None,
    ) -> None:
        """A POST that is not waited for.

        Args:
            path: begins with a slash.
            build: as of `post`.
            done: gets what `post` would return or raise, in the thread that serves connections,
                which must not be kept.
            progress: as of `post`, in the same thread.
        """

        async def work() -> None:
            try:
                answer: Json | Exception = await self._retrying("POST", path, build, progress)
            except Exception as error:
                answer = error
            done(answer)

        self._loop.call_soon_threadsafe(_spawn, self._loop, work())

    async def _retrying(
        self,
        method: str,
        path: str,
        build: Callable[[], Json | None],
        progress: Progress | None = None,
    ) -> Json:
        base = self._router if path == "/generate" else self.url
        for pause in (*_RETRY_PAUSES, None):
            body = build()
            data = None if body is None else orjson.dumps(body)
            try:
                status, content = await self._exchange(method, base + path, data, progress)
            except aiohttp.ConnectionTimeoutError as error:
                if pause is None:
                    raise self._unreachable(base, error) from error
            except TimeoutError as error:
                raise ServerUnreachableError(
                    f"{base}{path} gave no answer within {self._timeout:g} s"
                ) from error
            except (aiohttp.ClientError, OSError) as error:
                if pause is None:
                    raise self._unreachable(base, error) from error
            else:
                if status not in _OVERLOADED or pause is None:
                    return self._decode(path, status, content)
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _exchange(
        self, method: str, url: str, data: bytes | None, progress: Progress | None = None
    ) -> tuple[int, bytes]:
        async with self._session.request(method, url, data=data, headers=self._headers) as response:
            if response.content_type != "text/event-stream":
                return response.status, await response.read()
            return await _last_event(response.content, progress)

    def _unreachable(self, base: str, error: Exception) -> ServerUnreachableError:
        return ServerUnreachableError(f"cannot reach an SGLang server at {base}: {_cause(error)}")

    def _decode(self, path: str, status: int, content: bytes) -> Json:
        if status == 200:
            try:
                return cast(Json, orjson.loads(content))
            except json.JSONDecodeError as error:
                raise ServerError(f"{self.url}{path} is not an SGLang server's answer") from error
        message = _error_message(content)
        if status in (401, 403):
            raise AuthenticationError(
                f"{self.url} refused the API key (HTTP {status}); give its own with "
                "api_key or --api-key"
            )
        if 400 <= status < 500:
            raise RequestRejectedError(f"{self.url}{path} refused the request: {message}")
        raise ServerError(f"{self.url}{path} failed (HTTP {status}): {message}")


async def _last_event(stream: aiohttp.StreamReader, progress: Progress | None) -> tuple[int, bytes]:
    """The answer that ends a stream, and its status; those before it are passed on."""
    last, status = b"", 200
    try:
        async for last in _events(stream):
            answer = orjson.loads(last)
            if "error" in answer:
                status = 400
            elif reason := answer["meta_info"]["finish_reason"]:
                status = reason.get("status_code") or 200
            elif progress is not None:
                progress(answer)
    except (aiohttp.ClientError, OSError) as error:
        # What was passed on is in the tree: another try would draw something else.
        raise ServerError(f"the server broke off in the midst of an answer: {error}") from error
    # A stream begins as a success, before its request is looked at.
    return status, last


async def _events(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """What the events of a stream hold, of any length, up to the one that says it is over."""
    buffer = b""
    async for piece in stream.iter_any():
        *events, buffer = (buffer + piece).split(_EVENT_END)
        for event in events:
            if event == _DONE:
                return
            yield event.removeprefix(_EVENT_START)
    raise aiohttp.ClientPayloadError("the stream broke off")


def io_loop() -> asyncio.AbstractEventLoop:
    """The loop of the one thread of this process that serves all connections."""
    # A forked process inherits the loop, but not the thread.
    return _io_loop(os.getpid())


@functools.cache
def _io_loop(process_id: int) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=_IO_THREAD, daemon=True).start()
    return loop


def _spawn(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    task = loop.create_task(work)
    # The loop itself holds its tasks weakly.
    _running.add(task)
    task.add_done_callback(_running.discard)


def _close(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
    if threading.current_thread().name != _IO_THREAD:
        with contextlib.suppress(TimeoutError):
            closing.result(_NOTIFY_TIMEOUT)


def require_url(url: str) -> None:
    """Refuse a server URL without a scheme.

    Raises:
        ValueError: it is one.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"server URL is {url!r}; it must start with http:// or https://")


def _raise_file_limit() -> None:
    """Let the process hold a connection per running sequence; many systems begin with 1024."""
    try:
        import resource
    except ImportError:  # not on Unix
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _cause(error: Exception) -> str:
    """What the operating system said, without aiohttp's object names."""
    system = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(system, OSError) and system.errno and system.errno > 0:
        return os.strerror(system.errno)
    return str(error) or type(error).__name__


def _error_message(data: bytes) -> str:
    """The server's own words; its errors come in several shapes."""
    try:
        content = orjson.loads(data)
    except json.JSONDecodeError:
        text = " ".join(data.decode(errors="replace").split())
        return "no message" if not text or text.startswith("<") else text[:500]
    if isinstance(content, dict) and "meta_info" in content:  # the end of a stream
        content = content["meta_info"]["finish_reason"]
    while isinstance(content, dict):
        content = content.get("message") or content.get("error") or content.get("detail") or "?"
    return str(content)
