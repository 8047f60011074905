"""What goes wrong between a request and its answer, by its name, and whether to try again."""

from __future__ import annotations

import os
import socket
import ssl

import aiohttp

from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.connections import Reply
from eager_sgl.engine.protocol import error_message
from eager_sgl.errors import (
    AuthenticationError,
    MalformedAnswerError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
)

__all__ = ["LostError", "failure_of", "malformed", "refusal_of"]

_RETRIED = (429, 500, 502, 503, 504)
_NOT_BEGUN = (429, 503)


class LostError(Exception):
    """A try without a usable answer, of which nothing was used.

    Attributes:
        error: what to raise where it was the last.
        may_run: whether the server may still be at it.
        again: whether it may be tried again.
    """

    def __init__(self, error: ServerError, *, may_run: bool = True, again: bool = True) -> None:
        super().__init__(str(error))
        self.error, self.may_run, self.again = error, may_run, again


def refusal_of(server: str, url: str, reply: Reply) -> Exception:
    """What an HTTP status other than 200 means."""
    status, message = reply.status, error_message(reply.body)
    if status in (401, 403):
        return AuthenticationError(
            f"{server} refused the API key (HTTP {status}); give its own with api_key, --api-key "
            f"or {API_KEY_VARIABLE}"
        )
    failure = ServerError(f"{url} failed (HTTP {status}): {message}")
    if status in _RETRIED:
        return LostError(failure, may_run=status not in _NOT_BEGUN)
    if 400 <= status < 500:
        return RequestRejectedError(f"{url} refused the request: {message}")
    return failure


def failure_of(base: str, error: Exception) -> Exception:
    """What a failure of the connection means."""
    unreachable = ServerUnreachableError(
        f"cannot reach an SGLang server at {base}: {_cause(error)}"
    )
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL):
        return unreachable
    is_sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return LostError(unreachable, may_run=is_sent)


def malformed(url: str, what: str) -> LostError:
    """An answer that is none of SGLang's."""
    return LostError(MalformedAnswerError(f"{url} is not an SGLang server's answer: {what}"))


def _cause(error: Exception) -> str:
    """What went wrong with a connection, without the object names of aiohttp."""
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "it closed the connection before its answer was complete"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"its answer is no HTTP that could be read ({' '.join(error.message.split())})"
    system = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(system, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({system.verify_message})"
    if isinstance(system, ssl.SSLError):
        return "it does not speak TLS there; begin the URL with http:// if it is a plain server"
    if isinstance(system, OSError) and system.errno and system.errno > 0:
        return os.strerror(system.errno)
    if isinstance(system, socket.gaierror) and system.strerror:
        return f"its name is not known ({system.strerror})"
    return str(error) or type(error).__name__
