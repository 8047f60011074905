"""Readers of answers that the operator of a server names on its command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, cast

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import Sequence as Tokens
from eager_sgl.errors import PlugInError

__all__ = ["BUILT_IN", "OperatorAnswer", "readers_of"]

BUILT_IN = ("boxed", "json", "tool_call")
"""The names of `eager.answer` that every server has."""


class OperatorAnswer:
    """The answer of a sequence by a function of the operator's.

    Args:
        name: of `eager.answer`, for messages.
        function: the text after the reasoning (all of it if the reasoning is not closed) -> its
            answer in a canonical form, None without one. It runs in a thread of the server.

    Raises:
        PlugInError: it is no function of a text; when called, it failed or returned no text.
    """

    def __init__(self, name: str, function: Callable[[str], str | None]) -> None:
        self._function = PlugIn("answer reader", function, ("text",), name)

    def __call__(self, sequence: Tokens) -> str | None:
        with self._function.blamed():
            answer = self._function.hashable(sequence.final_text)
        if answer is not None and not isinstance(answer, str):
            raise PlugInError(f"{self._function} returned {answer!r}; it must return str or None")
        return None if answer is None else str(answer)


def readers_of(options: Sequence[str]) -> dict[str, OperatorAnswer]:
    """The readers by name, of options `NAME=MODULE:OBJECT`.

    Raises:
        ValueError: an option has another form or a built-in name, or its import fails.
    """
    readers: dict[str, OperatorAnswer] = {}
    for option in options:
        name, _, path = option.partition("=")
        if not name.isidentifier() or name in (*BUILT_IN, *readers) or ":" not in path:
            known = ", ".join((*BUILT_IN, *readers))
            raise ValueError(
                f"--answers is {option!r}; it must be NAME=MODULE:OBJECT, with a NAME of letters, "
                f"digits and _, and none of {known}"
            )
        readers[name] = OperatorAnswer(name, _imported(option, path))
    return readers


def _imported(option: str, path: str) -> Callable[[str], str | None]:
    module, _, attribute = path.partition(":")
    try:
        found: Any = reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # whatever the module raises
        raise ValueError(f"--answers is {option!r}, which cannot be imported: {error}") from error
    return cast(Callable[[str], str | None], found)
