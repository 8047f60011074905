"""Errors in OpenAI's form, and the HTTP status of every exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eager_sgl.engine.protocol import Json
from eager_sgl.errors import (
    AuthenticationError,
    PromptTimeoutError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
)

__all__ = ["ApiError", "api_error_of", "of_the_request"]

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
"""OpenAI's types of errors by status; of others one for 4xx, and one for 5xx."""
_RETRY_AFTER = (429, 503)


@dataclass(eq=False)
class ApiError(Exception):
    """An answer other than 200.

    Attributes:
        status: HTTP status.
        message: one sentence for the user.
        param: the field that is wrong; None if it is none of the body's.
        code: a short name for programs; None without one.
        retry_after: seconds after which to try again, if another try may succeed.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int = 1

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> Json:
        """The JSON value that OpenAI's clients read."""
        general = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, general),
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the answer."""
        headers = {"Retry-After": str(self.retry_after)} if self.status in _RETRY_AFTER else {}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


@contextmanager
def of_the_request(param: str | None = None) -> Iterator[None]:
    """Inside, a `ValueError` is a fault of the request; elsewhere it is one of the endpoint.

    Args:
        param: the field that is wrong then; None if several may be.

    Raises:
        ApiError: its status is 400.
    """
    try:
        yield
    except ValueError as error:
        raise ApiError(400, str(error), param) from error


def api_error_of(error: Exception) -> ApiError:
    """The answer for an exception of the library; text of unexpected ones is not sent."""
    match error:
        case ApiError():
            return error
        case RequestRejectedError():
            return ApiError(400, str(error))
        case PromptTimeoutError() | TimeoutError():
            return ApiError(504, "the request took longer than its deadline", code="deadline")
        case ServerUnreachableError():
            return ApiError(503, f"no SGLang server can answer now: {error}", code="unavailable")
        case AuthenticationError():
            return ApiError(502, "the SGLang server refused this server's API key")
        case ServerError():
            return ApiError(502, f"the SGLang server failed: {error}", code="upstream_failed")
    return ApiError(500, "an error of this server; its log has the details", code="internal")
