"""Countdown with the held-out prompts of the bundled reasoner."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import jsonlines

from evals.tasks import Defaults, Sample, Score, choose
from evals.tasks.countdown_rules import Problem, evaluate, instruction, is_correct, parse_answer

__all__ = ["TASK", "Countdown"]

PROMPTS = Path(__file__).with_name("countdown.jsonl")


class Countdown:
    """Reach a target from given numbers; the answer is an expression.

    Args:
        path: JSON lines with `id`, `level`, `numbers` and `target`.
    """

    name = "countdown"
    can_vote = True
    # θ belongs to the bundled reasoner and to an entropy taken at temperature 1.
    defaults = Defaults(threshold=0.7, max_new_tokens=256, chunk_tokens=32, limit=100)

    def __init__(self, path: Path = PROMPTS) -> None:
        self.path = path

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        with jsonlines.open(self.path) as lines:
            samples = [_sample(line) for line in lines.iter(type=dict)]
        return choose(samples, limit, levels, seed)

    def score(self, sample: Sample, text: str) -> Score:
        problem: Problem = sample.reference
        answer = parse_answer(text)
        if answer is None:
            return Score(False, None, "no answer after the reasoning")
        if is_correct(problem, answer):
            return Score(True, answer, "reaches the target with the given numbers")
        return Score(False, answer, _mistake(problem, answer))

    def vote_key(self, sample: Sample, answer: str) -> Hashable | None:
        problem: Problem = sample.reference
        try:
            value, numbers = evaluate(answer)
        except ValueError:
            return None
        return value, sorted(numbers) == sorted(problem.numbers)


def _sample(line: dict[str, Any]) -> Sample:
    problem = Problem(tuple(line["numbers"]), line["target"], line["level"])
    prompt = [{"role": "user", "content": instruction(problem)}]
    return Sample(line["id"], prompt, problem.level, problem)


def _mistake(problem: Problem, answer: str) -> str:
    try:
        value, numbers = evaluate(answer)
    except ValueError as error:
        return str(error)
    if sorted(numbers) != sorted(problem.numbers):
        return f"uses {list(numbers)} where {list(problem.numbers)} were given"
    return f"makes {value}, not {problem.target}"


TASK = Countdown()
