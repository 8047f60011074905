"""Countdown with the held-out prompts of the bundled reasoner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Self

import jsonlines

from evals.grading.score import Score
from evals.grading.votes import vote_classes
from evals.tasks.countdown_rules import Problem, evaluate, instruction, is_correct
from evals.tasks.task import Defaults, Sample, choose, user_message

__all__ = ["PROMPTS", "TASK", "Countdown", "read_problems"]

UNCLOSED = re.compile(r"[0-9]+:")
"""The numbered attempt that begins the reasoner's reasoning: the whole text is reasoning."""
PROMPTS = Path(__file__).with_name("countdown.jsonl")


class Countdown:
    """Reach a target from given numbers; the answer is an expression.

    Args:
        path: a file that `read_problems` reads.
    """

    name = "countdown"
    can_vote = True
    has_labels = True
    needs_isolation = False
    # θ belongs to the bundled reasoner and to entropy at temperature 1.
    defaults = Defaults(threshold=0.7, max_new_tokens=256, chunk_tokens=32, limit=100)

    def __init__(self, path: Path = PROMPTS) -> None:
        self.path = path

    def using(self, copy: Path) -> Self:
        return type(self)(copy)

    def to_json(self) -> dict[str, object] | None:
        return None if self.path == PROMPTS else {"copy": str(self.path)}

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        samples = (
            Sample(name, user_message(instruction(problem)), problem.level, problem)
            for name, problem in read_problems(self.path)
        )
        return choose(samples, limit, levels, seed)

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        return ()

    def score(self, sample: Sample, text: str) -> Score:
        problem: Problem = sample.reference
        answer = text.strip()
        if not answer or UNCLOSED.match(answer):
            return Score(False, None, "no answer after the reasoning")
        if is_correct(problem, answer):
            return Score(True, answer, "reaches the target with the given numbers")
        return Score(False, answer, _mistake(problem, answer))

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        return vote_classes([_key(sample.reference, answer) for answer in answers])


def read_problems(path: Path) -> list[tuple[str, Problem]]:
    """Ids and problems of JSON lines with `id`, `level`, `numbers` and `target`."""
    with jsonlines.open(path) as rows:
        return [
            (row["id"], Problem(tuple(row["numbers"]), row["target"], row["level"]))
            for row in rows.iter(type=dict)
        ]


def _key(problem: Problem, answer: str | None) -> tuple[Fraction, bool] | None:
    """Equal for answers of equal value that both use the given numbers, or both do not."""
    try:
        value, numbers = evaluate(answer or "")
    except ValueError:
        return None
    return value, sorted(numbers) == sorted(problem.numbers)


def _mistake(problem: Problem, answer: str) -> str:
    try:
        value, numbers = evaluate(answer)
    except ValueError as error:
        return str(error)
    if sorted(numbers) != sorted(problem.numbers):
        return f"uses {list(numbers)}, not the given {list(problem.numbers)}"
    return f"equals {value}, not {problem.target}"


TASK = Countdown()
