"""Errors in OpenAI's form, and the HTTP status of every exception."""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl.engine.protocol import Json
from eager_sgl.errors import (
    AuthenticationError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
)

__all__ = ["ApiError", "api_error_of"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
_RETRY_AFTER = (429, 503)


@dataclass(eq=False)
class ApiError(Exception):
    """An answer other than 200.

    Attributes:
        status: HTTP status.
        message: one sentence for the user.
        param: the field that is wrong; None if it is none of the body's.
        code: a short name for programs; None without one.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> Json:
        """The JSON value that OpenAI's clients read."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "server_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the answer."""
        headers = {"Retry-After": "1"} if self.status in _RETRY_AFTER else {}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def api_error_of(error: Exception) -> ApiError:
    """The answer for an exception of the library; text of unexpected ones is not sent."""
    match error:
        case ApiError():
            return error
        case RequestRejectedError() | ValueError():
            return ApiError(400, str(error))
        case ServerUnreachableError():
            return ApiError(503, f"no SGLang server can answer now: {error}", code="unavailable")
        case AuthenticationError():
            return ApiError(502, "the SGLang server refused this server's API key")
        case ServerError():
            return ApiError(502, f"the SGLang server failed: {error}", code="upstream_failed")
        case TimeoutError():
            return ApiError(504, "the request took longer than its deadline", code="deadline")
    return ApiError(500, "an error of this server; its log has the details", code="internal")
