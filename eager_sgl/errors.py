"""Every exception that eager_sgl raises on its own account.

    EagerError
    ├── PlugInError                a function of the user's does not do what its role asks
    ├── RuntimeStartError          the embedded runtime did not come up
    └── ServerError                the SGLang server could not do what was asked
        ├── ServerUnreachableError     no answer: refused, reset, timed out, died
        ├── AuthenticationError        the API key is missing or wrong
        ├── BrokenAnswerError          an answer broke off after a part of it was used
        ├── MalformedAnswerError       it answered, but not as SGLang does
        ├── RequestRejectedError       the server refused this request (HTTP 4xx)
        ├── RuntimeStoppedError        the embedded runtime, or a process of it, has died
        └── ServerUnsuitableError      it answers, but lacks what branching depends on

Wrong arguments raise the built-in `ValueError`.
"""

__all__ = [
    "AuthenticationError",
    "BrokenAnswerError",
    "EagerError",
    "MalformedAnswerError",
    "PlugInError",
    "RequestRejectedError",
    "RuntimeStartError",
    "RuntimeStoppedError",
    "ServerError",
    "ServerUnreachableError",
    "ServerUnsuitableError",
]


class EagerError(Exception):
    """Base of the exceptions of this package; its text is one sentence for the user."""


class PlugInError(EagerError, ValueError):
    """A function of the user's takes or returns something else than its role asks; names it."""


class RuntimeStartError(EagerError):
    """The embedded SGLang runtime did not start; the text ends with its log's last lines."""


class ServerError(EagerError):
    """The SGLang server could not do what was asked."""


class ServerUnreachableError(ServerError):
    """No usable answer came: the connection was refused, reset or timed out."""


class AuthenticationError(ServerError):
    """The server refused the API key (HTTP 401 or 403)."""


class BrokenAnswerError(ServerError):
    """An answer broke off after a part of it had been used, so that it cannot begin anew."""


class MalformedAnswerError(ServerError):
    """An answer is no JSON, or not of the shape that SGLang gives it."""


class RequestRejectedError(ServerError):
    """The server refused one request (HTTP 4xx), for example for its length."""


class RuntimeStoppedError(ServerError):
    """The embedded runtime no longer serves; the text names the dead process and the log."""


class ServerUnsuitableError(ServerError):
    """The server answers, but lacks something that the method depends on."""
