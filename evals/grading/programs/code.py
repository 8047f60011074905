"""Programs, judged in isolation by the tests of a benchmark.

    problem = CodeProblem(prompt, entry_point, test, canonical_solution)
    score("```python\\ndef add(a, b):\\n    return a + b\\n```", problem)

The columns are those of evalplus/humanevalplus, where `test` defines `check(candidate)`. The time
limits are evalplus's: a call may take `MIN_SECONDS` or `REFERENCE_FACTOR` times as long as that of
the right solution, whichever is more, and all calls together `TOTAL_SECONDS`. Time is CPU time, so
that a busy machine fails no program. As in evalplus a program that exceeds a limit is wrong; so is
a program whose results stop the tests, since those of the right solution do not.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from evals.grading.programs.isolation import require_isolation
from evals.grading.programs.job import JUDGE_LIMITS, Job, JobResult, run_job
from evals.grading.programs.sandbox import DEFAULT_LIMITS, Limits
from evals.grading.programs.text import extract
from evals.grading.score import Score

__all__ = ["CodeProblem", "score"]

MIN_SECONDS = 1.0
REFERENCE_FACTOR = 4.0
TOTAL_SECONDS = 60.0
JUDGE_SECONDS = 5.0  # for the tests themselves, beside a multiple of their time
IMPORT_SECONDS = 2.0  # for the imports of a program, beside the limit of a call


@dataclass(frozen=True)
class CodeProblem:
    """A function to write, and the tests that judge it.

    Attributes:
        prompt: imports, helpers, then the signature and docstring of the function.
        entry_point: the function's name.
        test: source that defines `check(candidate)`, which raises unless the function is right.
        canonical_solution: the body that completes the prompt.
    """

    prompt: str
    entry_point: str
    test: str
    canonical_solution: str

    @property
    def reference(self) -> str:
        """The source of the right solution."""
        return self.prompt + self.canonical_solution


def score(text: str, problem: CodeProblem, limits: Limits = DEFAULT_LIMITS) -> Score:
    """Judge the program in an answer by the tests of the problem.

    Safe to call from any number of threads; as many programs run at once as there are CPU cores.
    Whatever the program does, a judgement that fails is "unjudged" or, where the tests take too
    long, "timed_out".

    Args:
        text: an answer without its reasoning.
        problem: the problem that it answers.
        limits: of the program; its CPU time follows from that of the right solution.

    Raises:
        IsolationError: programs cannot be isolated here.
    """
    require_isolation()
    program = extract(text, problem.entry_point, problem.prompt)
    if program is None:
        return Score(False, None, f"no code that defines {problem.entry_point}")
    try:
        reference = _REFERENCES.result(problem)
        if reference.ending != "passed":
            reason = f"the right solution is not judged right: {reference.explanation}"
            return Score(False, program, reason, "unjudged")
        return _score(program, run_job(_job(problem, program, reference), limits))
    except OSError as error:
        return Score(False, program, f"the sandbox failed: {error}", "unjudged")


def _score(program: str, result: JobResult) -> Score:
    if result.ending in ("tests slow", "failed") and result.has_replied:
        return Score(False, program, f"its results stop the tests: {result.explanation}")
    if result.ending == "tests slow":
        return Score(False, program, result.explanation, "timed_out")
    if result.ending == "failed":
        return Score(False, program, result.explanation, "unjudged")
    return Score(result.ending == "passed", program, result.explanation)


def _job(problem: CodeProblem, program: str, reference: JobResult) -> Job:
    """The job of a program, with the limits that follow from the right solution's result."""
    limits = [_limit(seconds) for seconds in reference.seconds]
    return _reference_job(problem)._replace(
        program=program,
        load_seconds=_limit(reference.load_seconds) + IMPORT_SECONDS,
        limits=(*limits, MIN_SECONDS),
        total_seconds=min(sum(limits), TOTAL_SECONDS) + MIN_SECONDS,
        judge_seconds=math.ceil(REFERENCE_FACTOR * reference.judge_seconds + JUDGE_SECONDS),
    )


def _reference_job(problem: CodeProblem) -> Job:
    """The job of the right solution, with limits that depend on nothing."""
    return Job(
        prompt=problem.prompt,
        program=problem.reference,
        entry_point=problem.entry_point,
        reference=problem.reference,
        test=problem.test,
        load_seconds=TOTAL_SECONDS,
        limits=(TOTAL_SECONDS,),
        total_seconds=TOTAL_SECONDS,
        judge_seconds=JUDGE_LIMITS.cpu_seconds,
    )


def _limit(reference_seconds: float) -> float:
    return max(MIN_SECONDS, REFERENCE_FACTOR * reference_seconds)


class _References:
    """Results of the right solutions; each problem's runs once, however many threads ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[CodeProblem, threading.Lock] = {}
        self._results: dict[CodeProblem, JobResult] = {}

    def result(self, problem: CodeProblem) -> JobResult:
        """The result of a problem's right solution. Raises OSError as `run_job` does."""
        with self._lock:
            lock = self._locks.setdefault(problem, threading.Lock())
        with lock:
            if problem not in self._results:
                self._results[problem] = run_job(_reference_job(problem), DEFAULT_LIMITS)
            return self._results[problem]


_REFERENCES = _References()
