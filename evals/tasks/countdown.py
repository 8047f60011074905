"""Countdown with the held-out prompts of the bundled reasoner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import jsonlines

from evals.analysis.metrics import vote_classes
from evals.tasks import Defaults, Sample, Score, choose, user_message
from evals.tasks.countdown_rules import Problem, evaluate, instruction, is_correct

__all__ = ["TASK", "Countdown"]

UNCLOSED = re.compile(r"[0-9]+:")  # how the reasoner's reasoning begins: with a numbered attempt
PROMPTS = Path(__file__).with_name("countdown.jsonl")


class Countdown:
    """Reach a target from given numbers; the answer is an expression.

    Args:
        path: JSON lines with `id`, `level`, `numbers` and `target`.
    """

    name = "countdown"
    can_vote = True
    has_labels = True
    needs_isolation = False
    # θ belongs to the bundled reasoner and to an entropy taken at temperature 1.
    defaults = Defaults(threshold=0.7, max_new_tokens=256, chunk_tokens=32, limit=100)

    def __init__(self, path: Path = PROMPTS) -> None:
        self.path = path

    def using(self, copy: Path) -> Self:
        return type(self)(copy)

    def to_json(self) -> dict[str, Any] | None:
        return None if self.path == PROMPTS else {"copy": str(self.path)}

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        with jsonlines.open(self.path) as lines:
            samples = [_sample(line) for line in lines.iter(type=dict)]
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


def _sample(line: dict[str, Any]) -> Sample:
    problem = Problem(tuple(line["numbers"]), line["target"], line["level"])
    return Sample(line["id"], user_message(instruction(problem)), problem.level, problem)


def _key(problem: Problem, answer: str | None) -> tuple[Fraction, bool] | None:
    """Equal for answers of the same value that use the given numbers alike."""
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
        return f"uses {list(numbers)} where {list(problem.numbers)} were given"
    return f"makes {value}, not {problem.target}"


TASK = Countdown()
