"""What a state of an SGLang program knows of its tokens, and what it failed with.

SGLang copies the variables of a state to its forks, so both are kept among them.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from sglang.lang.interpreter import StreamExecutor

__all__ = [
    "FailedVariables",
    "StateTokens",
    "end_states_at_exit",
    "failing_in_the_program",
    "keep_tokens",
    "known_tokens",
]

_TOKENS = "eager_sgl.tokens"


@dataclass(frozen=True)
class StateTokens:
    """The tokens of a state, copied to its forks.

    Attributes:
        ids: of the state's text up to the end of `text`.
        text: what they stand for, as far as they come from text.
        num_prefilled: how many of them are known to have gone through the model.
        from_text: whether `text` alone gives the same tokens, so that it could stand in for them.
    """

    ids: tuple[int, ...]
    text: str
    num_prefilled: int = 0
    from_text: bool = True

    def extended(self, ids: Sequence[int], text: str) -> StateTokens:
        """After a generation: all but its last token went through the model."""
        ids = (*self.ids, *ids)
        return replace(self, ids=ids, text=self.text + text, num_prefilled=len(ids) - 1)


def known_tokens(s: StreamExecutor) -> StateTokens | None:
    """What the state keeps of its tokens; None if it keeps none yet."""
    known: StateTokens | list[Any] | Exception | None = s.variables.get(_TOKENS)
    if isinstance(known, Exception):
        raise known
    # `join` gathers the variables that its forks have and the state has not, these among them.
    return None if isinstance(known, list) else known


def keep_tokens(s: StreamExecutor, tokens: StateTokens) -> None:
    """Replace what the state keeps of its tokens."""
    s.variables[_TOKENS] = tokens


class FailedVariables(dict[str, Any]):
    """The variables of a state whose worker thread ended with an error; missing ones raise it."""

    def __init__(self, variables: Mapping[str, Any], error: Exception) -> None:
        super().__init__(variables)
        self.error = error
        self.is_raised = False

    def __missing__(self, name: str) -> NoReturn:
        self.fail()

    def fail(self) -> NoReturn:
        """Raise the error, in the thread that asks."""
        self.is_raised = True
        raise self.error


@contextlib.contextmanager
def failing_in_the_program(s: StreamExecutor) -> Iterator[None]:
    """Let an error of a state's worker thread reach the program.

    SGLang only warns of it: a variable is then missing without a word of why, and what is appended
    afterwards is waited for in vain.
    """
    try:
        yield
    except Exception as error:
        s.variables = failed = FailedVariables(s.variables, error)
        # Forks take up where the state stopped: they fail alike.
        failed[_TOKENS] = error
        if s.use_thread:
            # None is how SGLang ends the thread, which has ended by then.
            s.queue.put = lambda expression: None if expression is None else failed.fail()
        raise


@functools.cache
def end_states_at_exit() -> None:
    """End the states that are left when the main thread ends, once and for all.

    A program that fails between a fork and its join leaves forks behind, whose threads wait for
    more to do; Python would wait for them, and never exit.
    """
    threading.Thread(
        target=_end_states_after_main, name="eager_sgl.engine.states", daemon=True
    ).start()


def _end_states_after_main() -> None:
    threading.main_thread().join()
    for state in gc.get_objects():
        if type(state) is StreamExecutor and state.use_thread:
            state.queue.put(None)
