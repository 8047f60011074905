"""The rows of the tasks, and the judgement on a text."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer

__all__ = ["right", "rows"]

PROBLEMS = [
    Problem(numbers, target, level=1)
    for numbers, target in (((7, 5), 12), ((9, 4), 5), ((8, 3), 24), ((6, 11), 17))
]


def rows(**_: Any) -> dict[str, Dataset]:
    """The prompts, in the only split."""
    problems = [
        {
            "prompt": instruction(problem),
            "beginnings": [f"1:{problem.numbers[0]:02d}", "fork"],
            "target": problem.target,
            "index": index,
        }
        for index, problem in enumerate(PROBLEMS)
    ]
    return {"test": Dataset.from_list(problems)}


def right(row: dict[str, Any], texts: list[str]) -> dict[str, int]:
    """Whether the answer reaches the target with the numbers of the prompt."""
    answer = parse_answer(texts[0])
    return {"right": int(answer is not None and is_correct(PROBLEMS[row["index"]], answer))}
