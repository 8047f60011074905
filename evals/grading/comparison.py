"""The comparison of two quantities: at sight where that needs no mathematics, else in a worker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from evals.grading.notation import Quantity
from evals.grading.workers import shared_pool

if TYPE_CHECKING:
    from evals.grading.equality.equivalence import Finding

__all__ = ["compare_at_sight", "compare_in_worker", "is_integer", "require_math_verify", "words_of"]

_INTEGER = re.compile(r"[-+]?\d+")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_WORDS = re.compile(r"\(?[A-Za-z][A-Za-z '’.\-]*\)?|[A-Za-z]{3,} \d+")


def compare_at_sight(
    gold: Quantity, answer: Quantity, pairs: Sequence[tuple[str, str]]
) -> bool | None:
    """Whether two quantities are equal, if text, words or integers decide that; else None.

    Args:
        pairs: of `comparisons(gold, answer)`.
    """
    if any(left.replace(" ", "") == right.replace(" ", "") for left, right in pairs):
        return True
    if gold.base or answer.base:
        return False  # the digits of another base are not a decimal number
    if any("\\dots" in side.body for side in (gold, answer)):
        return False  # math-verify would ignore the dots
    words = [words_of(side.body) for side in (gold, answer)]
    if None not in words and any(_TEXT.fullmatch(side.body) for side in (gold, answer)):
        return words[0] == words[1]
    if all(is_integer(side) for pair in pairs for side in pair):
        return any(int(left) == int(right) for left, right in pairs)
    return None


def compare_in_worker(
    pairs: Sequence[tuple[str, str]], limit: float, is_rounded: bool = False
) -> Finding:
    """`equivalence.compare` in a worker. Raises `WorkerError`, as after `limit` seconds."""
    pool = shared_pool("evals.grading.equality.equivalence")
    finding: Finding = pool.call(_compare, pairs, is_rounded, limit=limit)
    return finding


def _compare(pairs: Sequence[tuple[str, str]], is_rounded: bool) -> Finding:
    """Runs in the worker, where math-verify and SymPy are loaded."""
    from evals.grading.equality import equivalence

    return equivalence.compare(pairs, is_rounded)


def is_integer(body: str) -> bool:
    return _INTEGER.fullmatch(body) is not None


def words_of(body: str) -> str | None:
    r"""Lower-case words, of `\text{}` or bare, without outer brackets; None for other text."""
    text = _TEXT.fullmatch(body)
    words = (text[1] if text else body).strip()
    if not text and not _WORDS.fullmatch(words):
        return None
    return " ".join(words.strip("()").lower().rstrip(".").split())


@cache
def require_math_verify() -> None:
    """Raises ImportError, with the command to install it, without math-verify."""
    if find_spec("math_verify") is None:
        raise ImportError(
            "grading mathematics needs math-verify: pip install -e '.[evals]' in the folder of "
            "eager_sgl"
        )
