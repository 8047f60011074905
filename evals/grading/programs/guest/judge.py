"""The side that runs the benchmark's tests; it never executes the code of a model.

The function under test is a stand-in that sends its arguments to the candidate's process and
returns plain values, so comparisons happen where the candidate cannot reach.
"""

from __future__ import annotations

import builtins
import json
import math
import os
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

from evals.grading.programs.guest.messages import ClosedError, NotPlainError, receive, send
from evals.grading.programs.guest.protocol import Job, Verdict

__all__ = ["WALL_FACTOR", "judge"]

WALL_FACTOR, WALL_SECONDS = 3.0, 1.0  # for a candidate that sleeps, or a busy machine


class _CandidateError(Exception):
    """The candidate raised an exception that is not built in, or cannot be rebuilt."""


class _CandidateFailure(BaseException):
    """The candidate returns nothing more. A test's `except Exception` does not catch it."""

    def __init__(self, kind: str, explanation: str = "") -> None:
        super().__init__(kind, explanation)


class _Candidate:
    """The function under test, as the tests see it.

    Args:
        channel: the file descriptor of the candidate's process.
        limits: CPU seconds for the calls in order; the last limit holds for all later calls.
        total_seconds: CPU seconds for all calls together.
        output: a file descriptor that receives an empty line with the first reply.
    """

    def __init__(
        self, channel: int, limits: Sequence[float], total_seconds: float, output: int
    ) -> None:
        self._channel = channel
        self._output = output
        self._limits = limits
        self._left = total_seconds
        self._wall_left = WALL_FACTOR * total_seconds + WALL_SECONDS
        self.seconds: list[float] = []
        self.raised: BaseException | None = None
        self.raised_as = "", ""
        self.failure: _CandidateFailure | None = None

    def load(self, prompt: str, program: str, entry_point: str, seconds: float) -> float:
        """Define the function; returns the CPU seconds of that."""
        try:
            ready = receive(self._channel, time.monotonic() + 30)
        except (ClosedError, TimeoutError):
            ready = None
        if ready != "ready":
            raise _CandidateFailure("not started", "the sandbox of the candidate did not start")
        try:
            kind, content, spent = self._ask(seconds, (prompt, program, entry_point), {})
        except _CandidateFailure as failure:
            kind, explanation = failure.args
            raise _CandidateFailure(kind, f"{explanation} when loaded".strip()) from None
        if kind == "raised":
            names, message = content
            raise _CandidateFailure("wrong", f"does not load: {names[0]}: {message}")
        return spent

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        seconds = self._limits[min(len(self.seconds), len(self._limits) - 1)]
        try:
            kind, content, spent = self._ask(min(seconds, self._left), args, kwargs)
            if not self.seconds:  # from here on the candidate's results can stop this process
                os.write(self._output, b"\n")
            if kind == "not plain":
                raise _CandidateFailure("wrong", f"returns {content}, which is not plain data")
        except _CandidateFailure as failure:
            self.failure = failure
            raise
        self._left -= spent
        self.seconds.append(spent)
        if kind == "raised":
            names, message = content
            self.raised, self.raised_as = _rebuilt(names, message), (names[0], message[:200])
            raise self.raised
        return content

    def _ask(self, seconds: float, args: Any, kwargs: Any) -> tuple[str, Any, float]:
        """A request and its reply. Raises _CandidateFailure without a well-formed reply."""
        if seconds <= 0:
            raise _CandidateFailure("time")
        start = time.monotonic()
        patience = min(WALL_FACTOR * seconds + WALL_SECONDS, self._wall_left)
        try:
            send(self._channel, (seconds, args, kwargs))
            reply = receive(self._channel, start + patience)
            self._wall_left -= time.monotonic() - start
            return _checked(reply)
        except TimeoutError:
            raise _CandidateFailure("time") from None
        except ClosedError:
            raise _CandidateFailure("gone") from None
        except (NotPlainError, MemoryError) as error:
            raise _CandidateFailure("wrong", f"returns {error}") from error


def judge(job: Job, channel: int, output: int) -> None:
    """Run the job's tests and write the verdict to `output` as JSON, after empty lines."""
    candidate = _Candidate(channel, job.limits, job.total_seconds, output)
    load_seconds = 0.0
    try:
        load_seconds = candidate.load(job.prompt, job.program, job.entry_point, job.load_seconds)
        kind, explanation = _run(_check_function(job, candidate), candidate)
    except _CandidateFailure as failure:
        kind, explanation = failure.args
    except BaseException as error:
        kind, explanation = "broken", f"the tests do not load: {type(error).__name__}: {error}"
    spent = time.process_time()
    verdict = Verdict(kind, explanation, load_seconds, candidate.seconds, spent)
    with open(output, "w", encoding="utf-8") as file:
        json.dump(verdict._asdict(), file)


def _check_function(job: Job, candidate: _Candidate) -> Callable[[_Candidate], object]:
    """The benchmark's `check`; the prompt's helpers are those of the reference."""
    namespace = types.ModuleType("tests").__dict__
    exec(compile(job.reference, "<reference>", "exec"), namespace)
    namespace[job.entry_point] = candidate
    exec(compile(job.test, "<test>", "exec"), namespace)
    check: Callable[[_Candidate], object] = namespace["check"]
    return check


def _run(check: Callable[[_Candidate], object], candidate: _Candidate) -> tuple[str, str]:
    """The kind of verdict and its explanation."""
    try:
        check(candidate)
    except BaseException as error:
        if candidate.failure is None:
            return "wrong", _mistake(error, candidate)
    if candidate.failure is not None:
        kind, explanation = candidate.failure.args
        return kind, f"{explanation} in test {len(candidate.seconds) + 1}".strip()
    num_tests = len(candidate.seconds)
    if not num_tests:
        return "broken", "the tests never call the function"
    return "passed", f"passes {num_tests} test{'s' if num_tests > 1 else ''}"


def _mistake(error: BaseException, candidate: _Candidate) -> str:
    where = f"in test {len(candidate.seconds)}"
    if error is candidate.raised:
        name, message = candidate.raised_as
        return f"raises {name} {where}{': ' * bool(message)}{message}"
    if isinstance(error, AssertionError):
        return f"wrong result {where}"
    return f"wrong result {where} ({type(error).__name__})"


def _checked(reply: Any) -> tuple[str, Any, float]:
    """The reply, if it has the form of a reply: the sender may be hostile."""
    match reply:
        case ("raised", ([str(), *names], str()), float(spent)):
            is_reply = all(isinstance(name, str) for name in names)
        case ("value", _, float(spent)) | ("not plain", str(), float(spent)):
            is_reply = True
        case _:
            is_reply, spent = False, 0.0
    if not (is_reply and math.isfinite(spent)):
        raise NotPlainError("a message that is no reply")
    return reply[0], reply[1], max(spent, 0.0)


def _rebuilt(names: list[str], message: str) -> Exception:
    """The nearest built-in exception to the exception that was raised."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message)
            except TypeError:
                continue
    return _CandidateError(message)
