"""Answers that are integers from 0 to 999, as in AIME."""

from __future__ import annotations

import re
from fractions import Fraction

from evals.grading.boxed import last_boxed
from evals.grading.notation import Quantity, links, read, tidy
from evals.grading.notation.arithmetic import evaluate
from evals.grading.score import Score

__all__ = ["score"]

LARGEST = 999
MAX_CHARACTERS = 2000

_ORDER = re.compile(r"[<>]|\\(?:le|ge|lt|gt|ne|leq|geq|neq|not|in|lim)(?![A-Za-z])")
_IMPLIES = re.compile(r"\\(?:Rightarrow|Longrightarrow|rightarrow|longrightarrow|implies|to)\b")
_INTEGER = re.compile(r"([-+]?)\s*(\d+)(?:\.0*)?")
_DECIMAL = re.compile(r"[-+]?\d*\.\d+")


def score(text: str, gold: str) -> Score:
    """Judge the boxed integer of `text`.

    Args:
        text: the sequence, at least from the end of its reasoning.
        gold: the right answer, 0 to 999; leading zeros and a degree sign are allowed.

    Raises:
        ValueError: `gold` is not such an integer.
    """
    expected = as_integer(gold)
    if expected is None:
        raise ValueError(f"gold is {gold!r}; it must be an integer from 0 to {LARGEST}")
    boxed = last_boxed(text)
    if boxed.content is None:
        return Score(False, None, boxed.problem or "")
    value = as_integer(boxed.content)
    if value is None:
        return Score(False, boxed.content, f"not an integer from 0 to {LARGEST}")
    if value != expected:
        return Score(False, str(value), f"{value}, not {expected}")
    return Score(True, str(value), f"equals {expected}")


def as_integer(answer: str) -> int | None:
    r"""The integer from 0 to 999 that `answer` states, or None.

    Leading zeros, thousands separators, style, brackets, a unit, a modulus that does not change it,
    and text before the last arrow or equals sign do not matter; arithmetic is evaluated. A
    different number before that equals sign does matter, and so does a percent sign.
    """
    if (plain := _INTEGER.fullmatch(answer)) and len(plain[2]) <= len(str(LARGEST)):
        return _in_range(_signed(plain))
    if len(answer) > MAX_CHARACTERS or _ORDER.search(text := tidy(answer)):
        return None
    parts = [link.value for link in links(_IMPLIES.split(text)[-1])]
    quantities = [read(part) for part in parts]
    values = [_value(quantity) for quantity in quantities]
    modulus = _modulus(quantities[-1])
    if any(not _agrees(value, values[-1], modulus) for value in values):
        return None
    if any(_DECIMAL.fullmatch(part) and not _INTEGER.fullmatch(part) for part in parts):
        return None
    return _in_range(values[-1])


def _agrees(value: Fraction | None, last: Fraction | None, modulus: int | None) -> bool:
    """Whether a value before the last relation is consistent with the value after it."""
    if value is None or value == last:
        return True
    return last is not None and modulus is not None and (value - last) % modulus == 0


def _modulus(quantity: Quantity) -> int | None:
    match = re.fullmatch(r"mod ([1-9]\d*)", quantity.unit or "")
    return int(match[1]) if match else None


def _in_range(value: Fraction | None) -> int | None:
    if value is None or value.denominator != 1 or not 0 <= value <= LARGEST:
        return None
    return int(value)


def _value(quantity: Quantity) -> Fraction | None:
    """The number that a quantity is; None for arithmetic with a modulus, a percentage or a base."""
    if quantity.is_percent or quantity.base is not None:
        return None
    if number := _INTEGER.fullmatch(quantity.body):
        return _signed(number)
    return None if (quantity.unit or "").startswith("mod ") else evaluate(quantity.body)


def _signed(integer: re.Match[str]) -> Fraction:
    return Fraction(int(integer[2]) * (-1 if integer[1] == "-" else 1))
