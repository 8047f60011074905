"""Countdown: reach a target with + - * / from given numbers, each used exactly once.

Pure functions over text and integers: no model, no files. A model's answer is untrusted text, so a
small parser reads it and nothing evaluates it as code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from eager_sgl.reasoning import final_text

__all__ = ["Key", "Problem", "evaluate", "instruction", "is_correct", "parse_answer"]

Key = tuple[tuple[int, ...], int]  # sorted numbers, target

THINK_END = "</think>"
MAX_EXPRESSION_LENGTH = 200
TOKEN = re.compile(r"[0-9]+|[-+*/()]")


@dataclass(frozen=True)
class Problem:
    """A problem: `numbers` in the order of the prompt, `target`, and `level` (1 is the easiest)."""

    numbers: tuple[int, ...]
    target: int
    level: int

    @property
    def key(self) -> Key:
        """Equal for problems that differ only in the order of their numbers, or in level."""
        return tuple(sorted(self.numbers)), self.target


def instruction(problem: Problem) -> str:
    """The user message, for example `make 02 from 03 08 03 18` (always two digits)."""
    numbers = " ".join(f"{number:02d}" for number in problem.numbers)
    return f"make {problem.target:02d} from {numbers}"


def parse_answer(text: str) -> str | None:
    """The text after the first `</think>`; None without `</think>`, or with nothing after it."""
    return (final_text(text, THINK_END) or "").strip() or None


def evaluate(expression: str) -> tuple[Fraction, tuple[int, ...]]:
    """The exact value of an arithmetic expression and its numbers in reading order.

    Accepts non-negative integers, + - * / and parentheses, with the usual precedence.

    Raises:
        ValueError: other text, a division by zero, or more than `MAX_EXPRESSION_LENGTH` characters.
    """
    if len(expression) > MAX_EXPRESSION_LENGTH:
        raise ValueError(f"expression has {len(expression)} > {MAX_EXPRESSION_LENGTH} characters")
    if rest := TOKEN.sub("", expression).strip():
        raise ValueError(f"expression {expression!r} contains {rest!r}, which is not arithmetic")
    parser = _Parser(TOKEN.findall(expression))
    value = parser.sum()
    if parser.next is not None:
        raise ValueError(f"expression {expression!r} continues with {parser.next!r} after its end")
    return value, tuple(parser.numbers)


def is_correct(problem: Problem, expression: str) -> bool:
    """Whether the expression uses each given number exactly once and equals the target."""
    try:
        value, numbers = evaluate(expression)
    except ValueError:
        return False
    return value == problem.target and sorted(numbers) == sorted(problem.numbers)


class _Parser:
    """Recursive descent over tokens; collects the numbers it reads in `numbers`."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens: Iterator[str] = iter(tokens)
        self.numbers: list[int] = []
        self.next = next(self._tokens, None)

    def sum(self) -> Fraction:
        value = self._product()
        while self.next in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value += sign * self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while self.next in ("*", "/"):
            operator, factor = self._take(), self._factor()
            if operator == "/" and factor == 0:
                raise ValueError("division by zero")
            value = value * factor if operator == "*" else value / factor
        return value

    def _factor(self) -> Fraction:
        token = self._take()
        if token == "(":
            value = self.sum()
            if (closing := self._take()) != ")":
                raise ValueError(f"expected ')', found {closing!r}")
            return value
        if token is None or not token.isdigit():
            raise ValueError(f"expected a number, found {token!r}")
        self.numbers.append(int(token))
        return Fraction(int(token))

    def _take(self) -> str | None:
        taken, self.next = self.next, next(self._tokens, None)
        return taken
