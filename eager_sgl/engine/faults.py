"""Errors of requests: their exceptions, and whether a request is tried again.

Retries leave the distribution of answers as it is:

- *Refused, reset or closed connections; 429, 500, 502, 503, 504; bodies that are no JSON,
  truncated, or of another shape* are tried again. Nothing of such an answer was used. A redraw
  conditions on the absence of the fault, and faults of network, gateway or load do not depend on
  the tokens. They do depend on time: where connections break during requests, a longer request
  breaks more often, so long answers are under-represented, by at most the share of broken requests.
  Chunks are short, and broken streams are continued, which keeps that share small.
- *Timeouts of connecting, and of routes that draw nothing* are tried again: nothing was drawn.
- *Timeouts of a request for tokens*: a redraw would favour short sequences, since long ones take
  longer. So the request is aborted (`/abort_request`), and its answer is what it has decoded, up to
  a moment that does not depend on the tokens: the answer stays, and the rest is requested from
  there, which is exact. A server that does not answer the abort within some seconds hangs, its
  answer is lost, and the request is tried again.
- *A stream that breaks off* after a part was passed on is not tried again: the part stays, and
  `eager_sgl.generate.executor` requests the rest.

Other statuses are no faults, and are not tried again: 400, 401, 403, 404, 413, 422 and the like.

A failed try may have made the server decode tokens that were never delivered. Their number is
unknown, and no count includes them. Every try has its own request id, and a try that may still run
is aborted, so that the server stops decoding it.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import orjson

from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.connections import Reply
from eager_sgl.engine.shapes import ShapeError, shown
from eager_sgl.errors import (
    AuthenticationError,
    MalformedAnswerError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
)

__all__ = ["LostError", "decoded", "failure_of", "malformed"]

_T = TypeVar("_T")

_RETRIED = (429, 500, 502, 503, 504)
_NOT_STARTED = (429, 503)


class LostError(Exception):
    """A try without a usable answer, no part of which was used.

    Attributes:
        error: to raise after the last try.
        may_run: whether the server may still run the request.
        again: whether the request may be tried again.
    """

    def __init__(self, error: ServerError, *, may_run: bool = True, again: bool = True) -> None:
        super().__init__(str(error))
        self.error, self.may_run, self.again = error, may_run, again


def decoded(server: str, url: str, reply: Reply, decode: Callable[[Any], _T]) -> _T:
    """The answer in a reply.

    Args:
        server: its base URL.
        url: of the request.
        reply: to the request.
        decode: of the JSON value; raises `ShapeError`.

    Raises:
        LostError: the request may be tried again.
        ServerError: the server refused the request.
    """
    if reply.status != 200:
        raise _refusal_of(server, url, reply)
    try:
        return decode(orjson.loads(reply.body))
    except json.JSONDecodeError as error:
        text = shown(reply.body.decode(errors="replace"))
        raise malformed(url, f"{text} is no JSON") from error
    except ShapeError as error:
        raise malformed(url, str(error)) from error


def _refusal_of(server: str, url: str, reply: Reply) -> Exception:
    """The error of an HTTP status other than 200."""
    status, message = reply.status, _message_of(reply.body)
    if status in (401, 403):
        return AuthenticationError(
            f"{server} refused the API key (HTTP {status}); pass the server's key with api_key, "
            f"--api-key or {API_KEY_VARIABLE}"
        )
    failure = ServerError(f"{url} failed (HTTP {status}): {message}")
    if status in _RETRIED:
        return LostError(failure, may_run=status not in _NOT_STARTED)
    if 400 <= status < 500:
        return RequestRejectedError(f"{url} refused the request: {message}")
    return failure


def _message_of(data: bytes) -> str:
    """The message in an error's body, which has one of several shapes."""
    try:
        content = orjson.loads(data)
    except json.JSONDecodeError:
        text = " ".join(data.decode(errors="replace").split())
        return "no message" if not text or text.startswith("<") else text[:500]
    if isinstance(content, dict) and isinstance(content.get("meta_info"), dict):
        content = content["meta_info"].get("finish_reason")  # the end of a stream
    while isinstance(content, dict):
        content = content.get("message") or content.get("error") or content.get("detail") or "?"
    return str(content)


def failure_of(base: str, error: Exception) -> Exception:
    """The error of a failed connection."""
    unreachable = ServerUnreachableError(
        f"cannot reach an SGLang server at {base}: {_cause(error)}"
    )
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
        return unreachable
    is_sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return LostError(unreachable, may_run=is_sent)


def malformed(url: str, mismatch: str) -> LostError:
    """The error of an answer that SGLang does not give."""
    return LostError(MalformedAnswerError(f"{url} is not an SGLang server's answer: {mismatch}"))


def _cause(error: Exception) -> str:
    """The cause of a failed connection, without the object names of aiohttp."""
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "it closed the connection before its answer was complete"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"its answer is no readable HTTP ({' '.join(error.message.split())})"
    system = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(system, ssl.SSLCertVerificationError):
        return f"its certificate was rejected ({system.verify_message})"
    if isinstance(system, ssl.SSLError):
        return "it does not speak TLS there; begin the URL with http:// if it is a plain server"
    if isinstance(system, OSError) and system.errno and system.errno > 0:
        return os.strerror(system.errno)
    if isinstance(system, socket.gaierror) and system.strerror:
        return f"the host name is unknown ({system.strerror})"
    return str(error) or type(error).__name__
