"""The exceptions of eager_sgl.

    EagerError
    ├── PlugInError                a user's function does not fit its role
    ├── RuntimeStartError          the embedded runtime did not start
    └── ServerError                the SGLang server failed, or refused
        ├── ServerUnreachableError     no answer: refused, reset, timed out
        │   └── PromptTimeoutError         not within the prompt's time, so that it has no tokens
        ├── AuthenticationError        the API key is missing or wrong
        ├── BrokenAnswerError          an answer ended after a part of it was used
        ├── MalformedAnswerError       the answer is not in SGLang's format
        ├── RequestRejectedError       the server refused this request (HTTP 4xx)
        ├── RuntimeStoppedError        the embedded runtime, or a process of it, has died
        └── ServerUnsuitableError      it lacks something that branching needs

Wrong arguments raise the built-in `ValueError`.
"""

__all__ = [
    "AuthenticationError",
    "BrokenAnswerError",
    "EagerError",
    "MalformedAnswerError",
    "PlugInError",
    "PromptTimeoutError",
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
    """A user's function takes or returns something else than its role requires; names it."""


class RuntimeStartError(EagerError):
    """The embedded SGLang runtime did not start; the text ends with the last lines of its log."""


class ServerError(EagerError):
    """The SGLang server failed, or refused a request."""


class ServerUnreachableError(ServerError):
    """No usable answer: the connection was refused, reset or timed out."""


class PromptTimeoutError(ServerUnreachableError):
    """A prompt's time was over before the server had tokenised it, so that it has no result."""


class AuthenticationError(ServerError):
    """The server refused the API key (HTTP 401 or 403)."""


class BrokenAnswerError(ServerError):
    """An answer ended after a part of it had been used, so that it cannot be requested again."""


class MalformedAnswerError(ServerError):
    """An answer is not JSON, or not of SGLang's shape."""


class RequestRejectedError(ServerError):
    """The server refused one request (HTTP 4xx), for example for its length."""


class RuntimeStoppedError(ServerError):
    """A process of the embedded runtime has died; the text names it and the log."""


class ServerUnsuitableError(ServerError):
    """The server answers, but lacks something that branching needs."""
