"""One program against a benchmark's tests: two sandboxes, and what came of it.

The candidate runs in one, the tests in the other, with nothing between them but a channel for
arguments and results. The verdict comes from the second, which never executes the candidate.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from evals.grading.programs.guest.judge import WALL_FACTOR
from evals.grading.programs.sandbox import Limits, Output, Sandbox, pump

__all__ = ["JUDGE", "Ending", "Job", "Trial", "attempt"]

Ending = Literal["passed", "wrong", "slow", "tests slow", "failed"]
"""passed, wrong; too slow itself; the tests too slow; or no verdict for other reasons."""

JUDGE = Limits(cpu_seconds=120, memory_bytes=4 << 30)
"""Of the tests; their time may be less (`Job.judge_seconds`)."""
GRACE_SECONDS = 5.0
ENDINGS: dict[str, Ending] = {"passed": "passed", "wrong": "wrong", "time": "slow"}
TIME_SIGNALS = {128 + number for number in (signal.SIGPROF, signal.SIGXCPU)}
# More at once would slow one another down and into their time limits.
NUM_CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
SLOTS = threading.BoundedSemaphore(NUM_CORES)


@dataclass(frozen=True)
class Job:
    """What the judge needs: the tests, the program, CPU seconds.

    Attributes:
        prompt: source of imports and helpers that stand before the program.
        program: source that defines the entry point.
        entry_point: name of the function under test.
        reference: source of the right solution, whose helpers the tests may call.
        test: source that defines `check(candidate)`.
        load_seconds: for defining the function.
        limits: for each call in order; the last for all after it.
        total_seconds: for all calls together.
        judge_seconds: for the tests themselves.
    """

    prompt: str
    program: str
    entry_point: str
    reference: str
    test: str
    load_seconds: float
    limits: tuple[float, ...]
    total_seconds: float
    judge_seconds: int


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes:
        ending: see `Ending`.
        explanation: why, in a few words.
        load_seconds: CPU seconds of defining the function.
        seconds: CPU seconds of each call that returned.
        judge_seconds: CPU seconds of the tests themselves.
        has_replied: whether any call returned, so that what the tests did then was up to it.
    """

    ending: Ending
    explanation: str
    load_seconds: float = 0.0
    seconds: tuple[float, ...] = ()
    judge_seconds: float = 0.0
    has_replied: bool = False


def attempt(job: Job, limits: Limits) -> Trial:
    """Run the job; `limits` bound the candidate, but for its time, which the job states.

    At most as many run at once as this process has CPU cores. Raises OSError where the machine
    has no room for another process.
    """
    cpu_seconds = job.load_seconds + job.total_seconds
    limits = replace(limits, cpu_seconds=math.ceil(cpu_seconds) + 1)
    tests = replace(JUDGE, cpu_seconds=job.judge_seconds)
    deadline = JUDGE.wall_seconds + WALL_FACTOR * cpu_seconds
    with SLOTS, contextlib.ExitStack() as stack:
        ends = (*socket.socketpair(), *socket.socketpair())
        ours, theirs, reader, writer = (stack.enter_context(end) for end in ends)
        channels = ours.fileno(), writer.fileno()
        judge = stack.enter_context(Sandbox("judge", tests, channels, json.dumps(asdict(job))))
        candidate = stack.enter_context(Sandbox("candidate", limits, [theirs.fileno()]))
        for end in (ours, theirs, writer):
            end.close()
        return _watched(judge, candidate, reader.fileno(), limits, time.monotonic() + deadline)


def _watched(
    judge: Sandbox, candidate: Sandbox, reader: int, limits: Limits, deadline: float
) -> Trial:
    verdict, said = Output(JUDGE.output_bytes), Output(JUDGE.output_bytes)
    printed = Output(limits.output_bytes, is_kept=False)
    sinks = {reader: verdict, judge.output.fileno(): said, candidate.output.fileno(): printed}
    try:
        pump(sinks, deadline, until=reader)
    except TimeoutError:
        explanation = "the tests did not finish within their time limit"
        return Trial("tests slow", explanation, has_replied=bool(verdict.kept))
    except OverflowError:
        if printed.is_over:
            return Trial("wrong", f"prints more than {limits.output_bytes} bytes")
        explanation = f"the tests print more than {JUDGE.output_bytes} bytes"
        return Trial("failed", explanation, has_replied=bool(verdict.kept))
    if not verdict.kept.strip():
        last = said.kept[-300:].decode(errors="replace").strip()
        explanation = f"the tests ended with status {judge.ended(GRACE_SECONDS)}: {last}"
        return Trial("failed", explanation.rstrip(": "), has_replied=bool(verdict.kept))
    return _trial(json.loads(verdict.kept), candidate)


def _trial(verdict: dict[str, Any], candidate: Sandbox) -> Trial:
    """The verdict in our words; where the candidate died its exit status says how."""
    kind, where = verdict["kind"], verdict["explanation"]
    if kind == "gone":
        status = candidate.ended(GRACE_SECONDS)
        kind = "time" if status in TIME_SIGNALS else "wrong"
        explanation = f"ends with status {status} {where}, before the tests have finished"
    else:
        explanation = where
    if kind == "time":
        explanation = f"exceeds the time limit {where}"
    ending = ENDINGS.get(kind, "failed")
    spent = verdict["load_seconds"], tuple(verdict["seconds"]), verdict["judge_seconds"]
    return Trial(ending, explanation, *spent, has_replied=bool(verdict["seconds"]))
