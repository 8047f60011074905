"""Whether two pieces of LaTeX mean the same, by math-verify; runs in a worker process.

math-verify's own time-outs are off: they use signals, and a worker is killed from outside.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr, Float

from evals.grading.reading import alike, prepare, settle

__all__ = ["Finding", "compare"]

Finding = Literal["equal", "different", "gold unreadable", "answer unreadable"]

RELATIVE_TOLERANCE = 1e-6
NOISE = 1e-12
_DECIMAL = re.compile(r"[-+]?\d*(?:\.(\d+))?")

# Units are split off before (`quantity`): math-verify drops any unit, a single letter too.
_LATEX_ONLY = [
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True,
            units=False,
            malformed_operators=True,
            nits=True,
            boxed="none",
            equations=False,
        )
    )
]
logging.getLogger("math_verify").setLevel(logging.ERROR)


def compare(pairs: Sequence[tuple[str, str]], both_ways: bool, is_rounded: bool = False) -> Finding:
    """Whether in any of the (gold, answer) pairs the answer agrees with the gold answer.

    Args:
        pairs: LaTeX without delimiters.
        both_ways: whether it suffices that they agree with their roles exchanged.
        is_rounded: whether a decimal need agree with the gold answer only as far as it goes.
    """
    finding: Finding = "different"
    for gold, answer in pairs:
        left, right = _read(gold), _read(answer)
        if left is None or right is None:
            finding = "gold unreadable" if left is None else "answer unreadable"
            continue
        left, right = alike(left, right)
        if (
            _agree(left, right)
            or (both_ways and _agree(right, left))
            or (is_rounded and _rounds_to(left, answer))
        ):
            return "equal"
    return finding


def _rounds_to(gold: Any, decimal: str) -> bool:
    digits, value = _DECIMAL.fullmatch(decimal.strip()), _value(gold)
    if digits is None or value is None:
        return False
    return bool(abs(value - Float(decimal)) <= 0.5000001 * 10.0 ** -len(digits[1] or ""))


@lru_cache(maxsize=256)
def _read(latex: str) -> Any | None:
    """A SymPy object; None where any part cannot be read."""
    # Only LaTeX, and only as a whole: else math-verify picks some number out of the text.
    found = parse(
        f"${prepare(latex)}$",
        _LATEX_ONLY,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return settle(found[0]) if found else None


def _agree(gold: Any, answer: Any) -> bool:
    if _far_apart(gold, answer):
        return False
    # timeout_seconds=None turns the signals off; errors come out, to be told from "different".
    is_equal: bool = verify(
        gold, answer, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True
    )
    return is_equal


def _far_apart(gold: Any, answer: Any) -> bool:
    """Whether both are real numbers with different values.

    math-verify rounds decimals to six places, which makes all small numbers equal, and goes on to
    simplify the difference of numbers that plainly differ, which may take for ever.
    """
    left, right = _value(gold), _value(answer)
    if left is None or right is None:
        return False
    difference = abs(left - right)
    is_exact = not (gold.has(Float) or answer.has(Float))
    if is_exact and difference < NOISE:
        return False  # an exact zero, written as a difference of roots, has a value of its own
    return bool(difference > RELATIVE_TOLERANCE * max(abs(left), abs(right)))


def _value(side: Any) -> Any | None:
    """A real number's value; None for anything else, and where no digit of it is certain."""
    if not isinstance(side, Expr) or side.free_symbols:
        return None
    value = side.evalf()
    is_certain = value.is_zero or (value.is_Float and value._prec > 1)
    return value if is_certain else None
