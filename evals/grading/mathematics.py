r"""Answers that are mathematics: the last `\boxed{}`, judged in a worker process.

An answer is taken apart first (`chain`: several ways to write it, all of which must be right;
`quantity`: unit, percent sign, number base, brackets); what is plainly the same text, two
integers or two words is judged here, the rest in a worker (`equivalence`): math-verify reads it,
exact values are compared exactly, sets, tuples, intervals and equations by what they are.

Known limits:

- A decimal that agrees to six places is taken for the exact number.
- Capital and small letters name the same variable.
- Bare letters are a product, in any order, so that the names of points and lines are too.
- A bare letter behind a number is a variable, never a unit.
- Units are not converted into each other.
- Between bare numbers without a space a comma before three digits separates thousands.
- Against a bare number over 1 a percentage is read in percents only.
- Inequalities that a comma joins are no set.
- A letter that may be any integer has the name that the reference answer gives it.
- A logarithm without a base has base ten.
- A power of a negative number with a fraction above it is the principal one.
- A column vector is not a tuple.
- A number is not converted from one base into another.
- An element that a list repeats counts once.
- Two ratios that could be times of day are equal digit by digit only.
- A word and a symbol for nothing are not the same.
- An equation with more than names on its left is no value.
- The two signs in a tuple are not written out.
- A number in words is not the number.
- A row matrix is not a tuple.
- A word before a number is no unit.
- An hour of the day is no unit.
- The name of a triangle or a segment is not that of its points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from evals.grading.boxed import last_boxed
from evals.grading.notation.chain import Link, links
from evals.grading.notation.latex import top_level_parts
from evals.grading.notation.quantity import Quantity, comparisons, is_equation, read
from evals.grading.notation.ratios import is_time
from evals.grading.score import Score
from evals.grading.workers.pool import CallTimeoutError, WorkerError, WorkerPool, shared_pool

if TYPE_CHECKING:
    from evals.grading.equality.equivalence import Finding

__all__ = ["LIMIT_SECONDS", "classes", "extract", "judge", "problem", "score"]

LIMIT_SECONDS = 10.0
MAX_CHARACTERS = 2000

_INTEGER = re.compile(r"[-+]?\d+")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_WORDS = re.compile(r"\(?[A-Za-z][A-Za-z '’.\-]*\)?|[A-Za-z]{3,} \d+")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")


def extract(text: str) -> str | None:
    r"""The content of the last complete `\boxed{}`; None where there is none."""
    return last_boxed(text).content


def score(text: str, gold: str, limit: float = LIMIT_SECONDS) -> Score:
    r"""Judge the boxed answer of `text`. May be called from any thread.

    Where that is a list, the last boxes may hold an element each.

    Args:
        text: the sequence, at least from the end of its reasoning.
        gold: LaTeX of the right answer, without `\boxed{}`.
        limit: seconds for the comparison; over it the status is "timed_out".

    Raises:
        ImportError: math-verify is not installed.
    """
    boxed = last_boxed(text)
    if boxed.content is None:
        return Score(False, None, boxed.problem or "")
    listed = boxed.listed if boxed.listed and _is_list(gold) else None
    return judge(listed or boxed.content, gold, limit)


def _is_list(gold: str) -> bool:
    """Whether it is several values in no order, which may stand in a box each."""
    body = read(gold).body.removeprefix(r"\{").removesuffix(r"\}")
    return len(top_level_parts(body)) > 1


def judge(answer: str, gold: str, limit: float = LIMIT_SECONDS) -> Score:
    """Judge an answer that stands alone; otherwise as `score`."""
    pool = _pool()
    if len(answer) > MAX_CHARACTERS:
        return Score(False, answer, f"longer than {MAX_CHARACTERS} characters")
    right = read(gold)
    values = [Link(answer)] if is_equation(right) else links(answer)
    for link in values:
        found = _judge(pool, link, answer, right, gold, limit)
        if not found.correct:
            break
    return found


def _judge(
    pool: WorkerPool, link: Link, answer: str, right: Quantity, gold: str, limit: float
) -> Score:
    """Judge one value of an answer; one that is approximate need agree as far as it goes."""
    given = read(link.value, answer)
    pairs = comparisons(right, given)
    if isinstance(pairs, str):
        return Score(False, answer, pairs)
    plain = _plainly_equal(right, given, pairs)
    if plain is not None and (plain or not link.is_approximate):
        return Score(plain, answer, f"{'is' if plain else 'is not'} {gold}")
    try:
        finding = pool.call(_compare, pairs, link.is_approximate, limit=limit)
    except CallTimeoutError as error:
        return Score(False, answer, f"the comparison with {gold} is {error}", "timed_out")
    except WorkerError as error:
        return Score(False, answer, f"the comparison with {gold} failed: {error}", "unjudged")
    return _score(finding, answer, right, gold)


def _score(finding: Finding, answer: str, right: Quantity, gold: str) -> Score:
    if finding == "gold unreadable" and _words(right.body) is None:
        why = f"the reference answer {gold} cannot be read as mathematics"
        return Score(False, answer, why, "unjudged")
    explanations = {
        "equal": f"equals {gold}",
        "different": f"does not equal {gold}",
        "answer unreadable": "cannot be read as mathematics",
        "gold undefined": f"the reference answer {gold} has no value",
        "gold unreadable": f"is not the text {gold}",
    }
    return Score(finding == "equal", answer, explanations[finding])


def problem(gold: str, limit: float = LIMIT_SECONDS) -> str | None:
    """Why `gold` is right for no text but its own; None where it can judge others.

    Args:
        gold: as in `score`.
        limit: seconds for comparing it with itself.
    """
    pool = _pool()
    right = read(gold)
    body = right.body
    if right.base or _words(body) is not None or _INTEGER.fullmatch(body) or is_time(body):
        return None
    if "\\dots" in body:
        return "what the dots leave out cannot be compared"
    try:
        finding = pool.call(_compare, [(body, body)], False, limit=limit)
    except CallTimeoutError as error:
        return f"comparing it with itself is {error}"
    except WorkerError as error:
        return f"comparing it with itself failed: {error}"
    problems = {
        "equal": None,
        "different": "evaluated, it does not equal itself",
        "gold undefined": "it has no value",
    }
    return problems.get(finding, "it cannot be read as mathematics")


def classes(answers: Sequence[str | None], limit: float = LIMIT_SECONDS) -> list[int | None]:
    """For each answer the index of the first equivalent one; None stays None.

    The classes that `evals.analysis.metrics.majority_correct` counts. Two answers are compared both
    ways round, which makes the relation symmetric. It need not be transitive (50\\% agrees with 50
    and with 0.5), so that an answer joins the earliest class whose first answer it agrees with. An
    answer that takes too long, or fails, agrees with the same text only.

    Args:
        answers: a prompt's, None where a sequence has none.
        limit: seconds for each comparison.
    """
    pool = _pool()
    first: dict[Quantity, int] = {}
    heads: list[tuple[Quantity, int]] = []
    for index, answer in enumerate(answers):
        if answer is None or (given := _take_apart(answer)) in first:
            continue
        if not _is_tractable(pool, given, limit):
            first[given] = index
            continue
        agreeing = (head for other, head in heads if _agree(pool, other, given, limit))
        first[given] = next(agreeing, index)
        if first[given] == index:
            heads.append((given, index))
    return [None if answer is None else first[_take_apart(answer)] for answer in answers]


def _take_apart(answer: str) -> Quantity:
    if len(answer) > MAX_CHARACTERS:
        return Quantity(answer)
    value = links(answer)[0].value
    return read(answer if _LETTER.search(value) else value, answer)


def _agree(pool: WorkerPool, left: Quantity, right: Quantity, limit: float) -> bool:
    forth, back = comparisons(left, right), comparisons(right, left)
    if isinstance(forth, str) or isinstance(back, str):
        return False
    pairs = [*forth, *((gold, answer) for answer, gold in back)]
    plain = _plainly_equal(left, right, pairs)
    if plain is not None:
        return plain
    try:
        return bool(pool.call(_compare, pairs, False, limit=limit) == "equal")
    except WorkerError:
        return False


def _is_tractable(pool: WorkerPool, given: Quantity, limit: float) -> bool:
    """Whether it can be compared with anything, which an answer that hangs cannot."""
    if len(given.body) > MAX_CHARACTERS:
        return False
    if given.base or _INTEGER.fullmatch(given.body):
        return True
    try:
        pool.call(_compare, [(given.body, "0")], False, limit=limit)
    except WorkerError:
        return False
    return True


def _plainly_equal(
    gold: Quantity, answer: Quantity, pairs: Sequence[tuple[str, str]]
) -> bool | None:
    """Whether they are equal where that needs no mathematics; None where it does."""
    if any(left.replace(" ", "") == right.replace(" ", "") for left, right in pairs):
        return True
    if gold.base or answer.base:
        return False  # digits in another base than ten mean what they look like
    if any("\\dots" in side.body for side in (gold, answer)):
        return False  # math-verify would leave the dots out
    words = [_words(side.body) for side in (gold, answer)]
    if None not in words and any(_TEXT.fullmatch(side.body) for side in (gold, answer)):
        return words[0] == words[1]
    if all(_INTEGER.fullmatch(side) for pair in pairs for side in pair):
        return any(int(left) == int(right) for left, right in pairs)
    return None


def _words(body: str) -> str | None:
    r"""Lower-case words, of `\text{}` or bare, without brackets around; None for anything else."""
    text = _TEXT.fullmatch(body)
    words = (text[1] if text else body).strip()
    if not text and not _WORDS.fullmatch(words):
        return None
    return " ".join(words.strip("()").lower().rstrip(".").split())


def _compare(pairs: Sequence[tuple[str, str]], is_rounded: bool) -> Any:
    """Runs in the worker, where math-verify and SymPy are loaded."""
    from evals.grading.equality.equivalence import compare

    return compare(pairs, is_rounded)


def _pool() -> WorkerPool:
    _require_math_verify()
    return shared_pool("evals.grading.equality.equivalence")


@cache
def _require_math_verify() -> None:
    if find_spec("math_verify") is None:
        raise ImportError("grading mathematics needs math-verify: pip install 'eager_sgl[evals]'")
