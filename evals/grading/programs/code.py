"""Programs judged by a benchmark's own tests, in isolation.

    problem = CodeProblem(prompt, entry_point, test, canonical_solution)
    score("```python\\ndef add(a, b):\\n    return a + b\\n```", problem)

The columns are those of evalplus/humanevalplus, where `test` defines `check(candidate)`. The time
limits are evalplus's: each call may take `MIN_SECONDS` or `REFERENCE_FACTOR` times what the right
solution takes for it, whichever is more, and all calls together `TOTAL_SECONDS`. Time is CPU time,
so that a busy machine fails nobody. A program that exceeds a limit is wrong, as it is there, and
so is one whose results stop the tests, which the right solution's do not.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from evals.grading.programs.sandbox import DEFAULT_LIMITS, Limits, require_isolation
from evals.grading.programs.text import extract
from evals.grading.programs.trial import JUDGE, Job, Trial, attempt
from evals.grading.score import Score

__all__ = ["CodeProblem", "extract", "require_isolation", "score"]

MIN_SECONDS = 1.0
REFERENCE_FACTOR = 4.0
TOTAL_SECONDS = 60.0
JUDGE_SECONDS = 5.0  # for the tests themselves, on top of a multiple of what they took
IMPORT_SECONDS = 2.0  # for what a program imports, on top of the limit of a call


@dataclass(frozen=True)
class CodeProblem:
    """A function to write and how it is judged.

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

    Args:
        text: an answer, its reasoning already removed.
        problem: what was asked.
        limits: what the program may use; its CPU time follows from the right solution's.

    Raises IsolationError where programs cannot be isolated; nothing else, whatever the program
    does: a judgement that fails is "unjudged" or, where the tests take too long, "timed_out".
    """
    require_isolation()
    program = extract(text, problem.entry_point, problem.prompt)
    if program is None:
        return Score(False, None, f"no code that defines {problem.entry_point}")
    try:
        reference = _REFERENCES.of(problem)
        if reference.ending != "passed":
            why = f"the right solution is not judged right: {reference.explanation}"
            return Score(False, program, why, "unjudged")
        return _score(program, attempt(_job(problem, program, reference), limits))
    except OSError as error:
        return Score(False, program, f"the sandbox failed: {error}", "unjudged")


def _score(program: str, trial: Trial) -> Score:
    if trial.ending in ("tests slow", "failed") and trial.has_replied:
        return Score(False, program, f"its results stop the tests: {trial.explanation}")
    if trial.ending == "tests slow":
        return Score(False, program, trial.explanation, "timed_out")
    if trial.ending == "failed":
        return Score(False, program, trial.explanation, "unjudged")
    return Score(trial.ending == "passed", program, trial.explanation)


def _job(problem: CodeProblem, program: str, reference: Trial) -> Job:
    """The job of a program, with the limits that follow from the right solution's trial."""
    limits = [_limit(seconds) for seconds in reference.seconds]
    return Job(
        prompt=problem.prompt,
        program=program,
        entry_point=problem.entry_point,
        reference=problem.reference,
        test=problem.test,
        load_seconds=_limit(reference.load_seconds) + IMPORT_SECONDS,
        limits=(*limits, MIN_SECONDS),
        total_seconds=min(sum(limits), TOTAL_SECONDS) + MIN_SECONDS,
        judge_seconds=math.ceil(REFERENCE_FACTOR * reference.judge_seconds + JUDGE_SECONDS),
    )


def _limit(reference_seconds: float) -> float:
    return max(MIN_SECONDS, REFERENCE_FACTOR * reference_seconds)


class _References:
    """How each problem's own solution fares, found once, however many threads ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[CodeProblem, threading.Lock] = {}
        self._trials: dict[CodeProblem, Trial] = {}

    def of(self, problem: CodeProblem) -> Trial:
        """Its trial, without the limits that follow from it. Raises OSError as `attempt` does."""
        with self._lock:
            lock = self._locks.setdefault(problem, threading.Lock())
        with lock:
            if problem not in self._trials:
                self._trials[problem] = self._tried(problem)
            return self._trials[problem]

    def _tried(self, problem: CodeProblem) -> Trial:
        job = Job(
            prompt=problem.prompt,
            program=problem.reference,
            entry_point=problem.entry_point,
            reference=problem.reference,
            test=problem.test,
            load_seconds=TOTAL_SECONDS,
            limits=(TOTAL_SECONDS,),
            total_seconds=TOTAL_SECONDS,
            judge_seconds=JUDGE.cpu_seconds,
        )
        return attempt(job, DEFAULT_LIMITS)


_REFERENCES = _References()
