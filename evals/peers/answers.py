"""The answers that contenders vote on, for all of them by the same function.

The endpoint has it by `--answers`, and its_hub as its projection.
"""

from __future__ import annotations

from collections.abc import Hashable

from evals.tasks.countdown_rules import evaluate, parse_answer

__all__ = ["expression_answer", "projection"]


def expression_answer(text: str) -> str | None:
    """An expression by its value and its numbers, which are equal however it is written.

    Args:
        text: after the reasoning.

    Returns:
        None if the text is no expression.
    """
    try:
        value, numbers = evaluate(text.strip())
    except ValueError:
        return None
    return f"{value} from {' '.join(map(str, sorted(numbers)))}"


def projection(text: str) -> Hashable:
    """The answer in a whole text; without an answer a value that equals no other.

    its_hub counts every value as a vote, so a common one would be a class of its own.
    """
    answer = expression_answer(parse_answer(text) or "")
    return object() if answer is None else answer
