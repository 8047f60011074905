"""The worker threads of a program's states: their errors reach the program, and they end."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Iterator
from typing import NoReturn

from sglang.lang.interpreter import StreamExecutor

from eager_sgl.engine.frontend.states import TOKENS
from eager_sgl.errors import RequestRejectedError

__all__ = ["end_states_at_exit", "end_worker", "raising_in_program"]

_SEEN = "eager_sgl.seen"


class _FailedVariables(dict[str, object]):
    """Variables of a state whose worker thread failed; access to a missing one raises the error."""

    def __init__(self, variables: dict[str, object], error: Exception) -> None:
        super().__init__(variables)
        self._error = error

    def __missing__(self, name: str) -> NoReturn:
        self.fail()

    def fail(self) -> NoReturn:
        """Raise the error in the calling thread."""
        # On the error: forks of a failed state share it.
        vars(self._error)[_SEEN] = True
        raise self._error

    @property
    def is_seen(self) -> bool:
        """Whether the program has seen the error."""
        return _SEEN in vars(self._error)


@contextlib.contextmanager
def raising_in_program(s: StreamExecutor) -> Iterator[None]:
    """Let an error of a state's worker thread reach the program.

    SGLang only warns: the program then misses a variable without a reason, and waits for ever for
    the results of later expressions.
    """
    try:
        yield
    except Exception as error:
        s.variables = failed = _FailedVariables(s.variables, error)
        # Forks copy the variables, and fail alike.
        failed[TOKENS] = error
        if s.use_thread:
            # None is how SGLang ends the thread, which has ended already.
            s.queue.put = lambda expression: None if expression is None else failed.fail()
        raise


def end_worker(s: StreamExecutor) -> None:
    """Wait for the worker thread of a state that ends; the state then refuses expressions.

    SGLang's states end again when they are deleted, and call `is_alive` of a thread that was not
    joined. Where the garbage collector deletes them while another thread starts, CPython 3.11
    deadlocks in that call; for a joined thread it takes no lock.

    Raises:
        Exception: a fork has failed, and the program has not seen the error. (SGLang's `join`
            would gather the variables of the other forks alone.)
    """
    if s.use_thread and s.worker is not threading.current_thread():
        s.worker.join()
    is_fork, variables = s.fork_start_text_pos is not None, s.variables
    if not isinstance(variables, _FailedVariables):
        if s.use_thread:
            s.queue.put = _refuse_expression
    elif is_fork and not variables.is_seen:
        variables.fail()


def _refuse_expression(expression: object) -> None:
    """Refuse what no thread would execute; SGLang would wait for its result for ever."""
    # None is how SGLang ends the thread, which has ended already.
    if expression is not None:
        raise RequestRejectedError(
            "the state has ended, with its program or in a join; append to the joined state, "
            "or before the join"
        )


@functools.cache
def end_states_at_exit() -> None:
    """End all states once the main thread has ended.

    A program that fails between a fork and its join leaves forks behind, whose threads wait for
    expressions; Python would wait for them, and never exit.
    """
    threading.Thread(
        target=_end_states_after_main, name="eager_sgl.engine.frontend.workers", daemon=True
    ).start()


def _end_states_after_main() -> None:
    threading.main_thread().join()
    for state in gc.get_objects():
        if type(state) is StreamExecutor and state.use_thread:
            state.queue.put(None)
