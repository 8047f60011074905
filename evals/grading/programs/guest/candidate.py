"""The side that runs the code of a model: it receives arguments and returns values.

It never sees the tests and takes no part in the judgement. Whatever the code does to this process,
it only chooses the values that it returns.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import types
from collections.abc import Callable
from typing import Any

from evals.grading.programs.guest.messages import ClosedError, NotPlainError, receive, send

__all__ = ["serve"]

NAME = "candidate"  # not "__main__": a demonstration at the end of the code does not run
MAX_MESSAGE_CHARACTERS = 300


def serve(channel: int) -> None:
    """Answer a `load`, then calls, until the other side closes the channel.

    A request is `(seconds, args, kwargs)`, a reply `(kind, content, seconds of CPU time)`.
    """
    try:
        send(channel, "ready")
        function, (kind, content, spent) = _timed(_load, *receive(channel))
        send(channel, (kind, None if kind == "value" else content, spent))
        while function is not None:
            _answer(channel, _timed(function, *receive(channel))[1])
    except ClosedError:
        return


def _timed(
    function: Callable[..., Any], seconds: float, args: Any, kwargs: Any
) -> tuple[Any, tuple[str, Any, float]]:
    """The value and the reply, under a limit on CPU time whose signal ends the process."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    start = time.process_time()
    value = None
    try:
        value = function(*args, **kwargs)
        kind, content = "value", value
    except BaseException as error:
        kind, content = "raised", (_names(error), _text(error))
    spent = time.process_time() - start
    signal.setitimer(signal.ITIMER_PROF, 0)
    return value, (kind, content, spent)


def _answer(channel: int, reply: tuple[str, Any, float]) -> None:
    try:
        send(channel, reply)
    except ClosedError:
        raise
    except NotPlainError as error:
        send(channel, ("not plain", str(error), reply[-1]))
    except Exception as error:
        send(channel, ("not plain", f"a value that raises {type(error).__name__}", reply[-1]))


def _load(prompt: str, program: str, entry_point: str) -> Callable[..., Any]:
    """The function that the program defines, after the prompt's imports and helpers."""
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module
    namespace = module.__dict__
    with contextlib.suppress(SyntaxError):  # a prompt may end within a statement
        exec(compile(prompt, "<prompt>", "exec"), namespace)
    namespace.pop(entry_point, None)
    exec(compile(program, "<candidate>", "exec"), namespace)
    function = namespace.get(entry_point)
    if not callable(function):
        raise NameError(f"{entry_point} is not defined")
    return function  # type: ignore[no-any-return]


def _names(error: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]


def _text(error: BaseException) -> str:
    try:
        return str(error)[:MAX_MESSAGE_CHARACTERS]
    except BaseException:
        return ""
