"""A program against a benchmark's tests, in two sandboxes.

The candidate runs in one sandbox and the tests in the other; between them is only a channel for
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
from dataclasses import dataclass, replace
from typing import Literal

from evals.grading.programs.guest.judge import WALL_FACTOR
from evals.grading.programs.guest.protocol import Job, Verdict
from evals.grading.programs.sandbox import Limits, Output, Sandbox, pump

__all__ = ["JUDGE_LIMITS", "Ending", "Job", "JobResult", "run_job"]

Ending = Literal["passed", "wrong", "slow", "tests slow", "failed"]
"""passed; wrong; the program too slow; the tests too slow; or no verdict for other reasons."""

JUDGE_LIMITS = Limits(cpu_seconds=120, memory_bytes=4 << 30)
"""Limits of the tests; `Job.judge_seconds` may lower their time."""
GRACE_SECONDS = 5.0
ENDINGS: dict[str, Ending] = {"passed": "passed", "wrong": "wrong", "time": "slow"}
TIME_SIGNALS = {128 + number for number in (signal.SIGPROF, signal.SIGXCPU)}
# More jobs at once would slow each other down and run into their time limits.
NUM_CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
SLOTS = threading.BoundedSemaphore(NUM_CORES)


@dataclass(frozen=True)
class JobResult:
    """The end of a job.

    Attributes:
        ending: see `Ending`.
        explanation: why, in a few words.
        load_seconds: CPU seconds of defining the function.
        seconds: CPU seconds of every call that returned.
        judge_seconds: CPU seconds of the tests themselves.
        has_replied: whether any call returned, so that its results may have caused the ending.
    """

    ending: Ending
    explanation: str
    load_seconds: float = 0.0
    seconds: tuple[float, ...] = ()
    judge_seconds: float = 0.0
    has_replied: bool = False


def run_job(job: Job, limits: Limits) -> JobResult:
    """Run the job; `limits` bound the candidate, except for its time, which the job states.

    At most as many run at once as this process has CPU cores. Raises OSError where the machine
    has no room for another process.
    """
    cpu_seconds = job.load_seconds + job.total_seconds
    limits = replace(limits, cpu_seconds=math.ceil(cpu_seconds) + 1)
    tests = replace(JUDGE_LIMITS, cpu_seconds=job.judge_seconds)
    deadline = JUDGE_LIMITS.wall_seconds + WALL_FACTOR * cpu_seconds
    with SLOTS, contextlib.ExitStack() as stack:
        ends = (*socket.socketpair(), *socket.socketpair())
        judge_end, candidate_end, reader, writer = (stack.enter_context(end) for end in ends)
        channels = judge_end.fileno(), writer.fileno()
        judge = stack.enter_context(Sandbox("judge", tests, channels, json.dumps(job._asdict())))
        candidate = stack.enter_context(Sandbox("candidate", limits, [candidate_end.fileno()]))
        for end in (judge_end, candidate_end, writer):
            end.close()
        return _await_verdict(
            judge, candidate, reader.fileno(), limits, time.monotonic() + deadline
        )


def _await_verdict(
    judge: Sandbox, candidate: Sandbox, reader: int, limits: Limits, deadline: float
) -> JobResult:
    verdict, messages = Output(JUDGE_LIMITS.output_bytes), Output(JUDGE_LIMITS.output_bytes)
    printed = Output(limits.output_bytes, is_kept=False)
    sinks = {reader: verdict, judge.output.fileno(): messages, candidate.output.fileno(): printed}
    try:
        pump(sinks, deadline, until=reader)
    except TimeoutError:
        explanation = "the tests did not finish within their time limit"
        return JobResult("tests slow", explanation, has_replied=bool(verdict.kept))
    except OverflowError:
        if printed.is_over:
            return JobResult("wrong", f"prints more than {limits.output_bytes} bytes")
        explanation = f"the tests print more than {JUDGE_LIMITS.output_bytes} bytes"
        return JobResult("failed", explanation, has_replied=bool(verdict.kept))
    if not verdict.kept.strip():
        last = messages.kept[-300:].decode(errors="replace").strip()
        explanation = f"the tests ended with status {judge.wait(GRACE_SECONDS)}: {last}"
        return JobResult("failed", explanation.rstrip(": "), has_replied=bool(verdict.kept))
    return _result(Verdict(**json.loads(verdict.kept)), candidate)


def _result(verdict: Verdict, candidate: Sandbox) -> JobResult:
    """The verdict as a result; the exit status of a dead candidate says how it died."""
    kind, explanation = verdict.kind, verdict.explanation
    if kind == "gone":
        status = candidate.wait(GRACE_SECONDS)
        kind = "time" if status in TIME_SIGNALS else "wrong"
        explanation = f"ends with status {status} {explanation}, before the tests have finished"
    if kind == "time":
        explanation = f"exceeds the time limit {verdict.explanation}"
    return JobResult(
        ENDINGS.get(kind, "failed"),
        explanation,
        verdict.load_seconds,
        tuple(verdict.seconds),
        verdict.judge_seconds,
        has_replied=bool(verdict.seconds),
    )
