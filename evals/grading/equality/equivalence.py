"""Whether two pieces of LaTeX mean the same; runs in a worker process.

math-verify parses both, without its time-outs: they use signals, while a worker can be killed. Its
comparison is not used: it rounds, and equates an interval with its ends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse
from sympy import Expr, S
from sympy.core.cache import clear_cache
from sympy.core.facts import InconsistentAssumptions

from evals.grading.equality.agreement import agree, is_defined
from evals.grading.equality.matrices import evaluate_matrices
from evals.grading.equality.reading import interpret, prepare, unify_letters
from evals.grading.equality.values import rounds_to

__all__ = ["Finding", "compare"]

Finding = Literal["equal", "different", "gold undefined", "gold unreadable", "answer unreadable"]

_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")

# Units are split off before (`units`): math-verify drops any unit, even a single letter.
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


def compare(pairs: Sequence[tuple[str, str]], is_rounded: bool = False) -> Finding:
    """Whether in any of the (gold, answer) pairs the answer agrees with the gold answer.

    Args:
        pairs: LaTeX without delimiters.
        is_rounded: whether a decimal may be the gold answer rounded to its places.
    """
    try:
        return _compare(pairs, is_rounded)
    except InconsistentAssumptions:
        # Seen about once in ten thousand calls of a process, and never twice with the same pair.
        clear_cache()
        _read.cache_clear()
        return _compare(pairs, is_rounded)


def _compare(pairs: Sequence[tuple[str, str]], is_rounded: bool) -> Finding:
    finding: Finding = "different"
    for gold, answer in pairs:
        left, right = _read(gold), _read(answer)
        if left is None or right is None:
            finding = "gold unreadable" if left is None else "answer unreadable"
            continue
        left, right = unify_letters(left, right)
        if not is_defined(left):
            finding = "gold undefined"
        elif agree(left, right) or (is_rounded and _rounds_to(left, answer)):
            return "equal"
    return finding


def _rounds_to(gold: Any, decimal: str) -> bool:
    is_decimal = _DECIMAL.fullmatch(decimal.strip())
    return bool(is_decimal) and isinstance(gold, Expr) and rounds_to(gold, Decimal(decimal))


@lru_cache(maxsize=256)
def _read(latex: str) -> Any | None:
    """A SymPy object; None where any part cannot be parsed."""
    # Only LaTeX, and only the whole: else math-verify picks any number from the text.
    parsed = parse(
        f"${prepare(latex)}$",
        _LATEX_ONLY,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    side = evaluate_matrices(parsed[0]) if parsed else None
    if side is None or (side is S.EmptySet and "emptyset" not in latex):
        return None  # `(x,x)`, parsed as an interval, has lost its ends
    return interpret(side)
