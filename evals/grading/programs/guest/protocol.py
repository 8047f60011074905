"""The job of the judge and its verdict; both cross the border of the sandbox as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Job", "Verdict"]


class Job(NamedTuple):
    """A program, the tests that judge it, and limits in CPU seconds.

    Attributes:
        prompt: source of the imports and helpers that come before the program.
        program: source that defines the entry point.
        entry_point: name of the function under test.
        reference: source of the right solution, whose helpers the tests may call.
        test: source that defines `check(candidate)`.
        load_seconds: for defining the function.
        limits: for the calls in order; the last limit holds for all later calls.
        total_seconds: for all calls together.
        judge_seconds: for the tests themselves.
    """

    prompt: str
    program: str
    entry_point: str
    reference: str
    test: str
    load_seconds: float
    limits: Sequence[float]
    total_seconds: float
    judge_seconds: int


class Verdict(NamedTuple):
    """What the judge reports.

    Attributes:
        kind: passed, wrong, time (a limit exceeded), gone (the candidate's process ended), not
            started, or broken (the tests themselves).
        explanation: a few words; for "time" and "gone" only where it happened.
        load_seconds: CPU seconds of defining the function.
        seconds: CPU seconds of every call that returned.
        judge_seconds: CPU seconds of the tests themselves.
    """

    kind: str
    explanation: str
    load_seconds: float
    seconds: Sequence[float]
    judge_seconds: float
