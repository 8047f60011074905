r"""Answers that are mathematics: the last `\boxed{}`, judged in a worker process.

An answer is taken apart first (`chain`: several ways to write it, all of which must be right;
`quantity`: unit, percent sign, number base, brackets); then `comparison` compares its parts with
the reference answer, at sight or in a worker: math-verify reads both, exact values are compared
exactly, sets, tuples, intervals and equations by their kind.

Known limits:

- A decimal that agrees to six places is taken for the exact number.
- Capital and small letters name the same variable.
- Bare letters are a product, in any order, so that the names of points and lines are too.
- A bare letter after a number is a variable, never a unit.
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
from typing import TYPE_CHECKING

from evals.grading.boxed import last_boxed
from evals.grading.comparison import (
    compare_at_sight,
    compare_in_worker,
    is_integer,
    require_math_verify,
    words_of,
)
from evals.grading.notation import Link, Quantity, comparisons, is_equation, links, read
from evals.grading.notation.latex import top_level_parts
from evals.grading.notation.ratios import is_time
from evals.grading.score import Score
from evals.grading.workers import CallTimeoutError, WorkerError

if TYPE_CHECKING:
    from evals.grading.equality.equivalence import Finding

__all__ = ["classes", "extract", "judge", "problem", "score"]

LIMIT_SECONDS = 10.0
MAX_CHARACTERS = 2000

_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")


def extract(text: str) -> str | None:
    r"""The content of the last complete `\boxed{}`; None without a box."""
    return last_boxed(text).content


def score(text: str, gold: str, limit: float = LIMIT_SECONDS) -> Score:
    r"""Judge the boxed answer of `text`. May be called from any thread.

    Where the reference answer is a list, the last boxes may hold an element each.

    Args:
        text: the sequence, at least from the end of its reasoning.
        gold: LaTeX of the right answer, without `\boxed{}`.
        limit: seconds for the comparison; beyond it the status is "timed_out".

    Raises:
        ImportError: math-verify is not installed.
    """
    boxed = last_boxed(text)
    if boxed.content is None:
        return Score(False, None, boxed.problem or "")
    listed = boxed.listed if boxed.listed and _is_list(gold) else None
    return judge(listed or boxed.content, gold, limit)


def _is_list(gold: str) -> bool:
    """Whether it is several values without order, which may be in separate boxes."""
    body = read(gold).body.removeprefix(r"\{").removesuffix(r"\}")
    return len(top_level_parts(body)) > 1


def judge(answer: str, gold: str, limit: float = LIMIT_SECONDS) -> Score:
    """Judge an answer without its box; otherwise as `score`."""
    require_math_verify()
    if len(answer) > MAX_CHARACTERS:
        return Score(False, answer, f"longer than {MAX_CHARACTERS} characters")
    reference = read(gold)
    for link in [Link(answer)] if is_equation(reference) else links(answer):
        verdict = _judge(link, answer, reference, gold, limit)
        if not verdict.correct:
            break
    return verdict


def _judge(link: Link, answer: str, reference: Quantity, gold: str, limit: float) -> Score:
    """Judge a value of an answer; an approximate value has to agree only up to rounding."""
    value = read(link.value, answer)
    pairs = comparisons(reference, value)
    if isinstance(pairs, str):
        return Score(False, answer, pairs)
    is_equal = compare_at_sight(reference, value, pairs)
    if is_equal is not None and (is_equal or not link.is_approximate):
        return Score(is_equal, answer, f"{'is' if is_equal else 'is not'} {gold}")
    try:
        finding = compare_in_worker(pairs, limit, link.is_approximate)
    except CallTimeoutError as error:
        return Score(False, answer, f"the comparison with {gold} is {error}", "timed_out")
    except WorkerError as error:
        return Score(False, answer, f"the comparison with {gold} failed: {error}", "unjudged")
    return _score(finding, answer, reference, gold)


def _score(finding: Finding, answer: str, reference: Quantity, gold: str) -> Score:
    if finding == "gold unreadable" and words_of(reference.body) is None:
        reason = f"the reference answer {gold} cannot be read as mathematics"
        return Score(False, answer, reason, "unjudged")
    explanations = {
        "equal": f"equals {gold}",
        "different": f"does not equal {gold}",
        "answer unreadable": "cannot be read as mathematics",
        "gold undefined": f"the reference answer {gold} has no value",
        "gold unreadable": f"is not the text {gold}",
    }
    return Score(finding == "equal", answer, explanations[finding])


def problem(gold: str, limit: float = LIMIT_SECONDS) -> str | None:
    """Why `gold` accepts no text but itself; None where it accepts others.

    Args:
        gold: as in `score`.
        limit: seconds for comparing it with itself.
    """
    require_math_verify()
    reference = read(gold)
    body = reference.body
    if reference.base or words_of(body) is not None or is_integer(body) or is_time(body):
        return None
    if "\\dots" in body:
        return "what the dots leave out cannot be compared"
    try:
        finding = compare_in_worker([(body, body)], limit)
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
    """For each answer the index of the first equivalent answer; None stays None.

    The counterpart of `votes.vote_classes`, whose answers are equal or not. Here two answers are
    compared in both directions, which makes the relation symmetric. It need not be transitive
    (50\\% agrees with 50 and with 0.5), so that an answer joins the earliest class whose first
    answer it agrees with. An answer that takes too long, or fails, agrees only with the same text.

    Args:
        answers: those of a prompt, None for a sequence without an answer.
        limit: seconds per comparison.
    """
    require_math_verify()
    first: dict[Quantity, int] = {}
    representatives: list[tuple[Quantity, int]] = []
    for index, answer in enumerate(answers):
        if answer is None or (quantity := _take_apart(answer)) in first:
            continue
        if not _is_tractable(quantity, limit):
            first[quantity] = index
            continue
        agreeing = (head for other, head in representatives if _agree(other, quantity, limit))
        first[quantity] = next(agreeing, index)
        if first[quantity] == index:
            representatives.append((quantity, index))
    return [None if answer is None else first[_take_apart(answer)] for answer in answers]


def _take_apart(answer: str) -> Quantity:
    if len(answer) > MAX_CHARACTERS:
        return Quantity(answer)
    value = links(answer)[0].value
    return read(answer if _LETTER.search(value) else value, answer)


def _agree(left: Quantity, right: Quantity, limit: float) -> bool:
    forward, backward = comparisons(left, right), comparisons(right, left)
    if isinstance(forward, str) or isinstance(backward, str):
        return False
    pairs = [*forward, *((gold, answer) for answer, gold in backward)]
    is_equal = compare_at_sight(left, right, pairs)
    if is_equal is not None:
        return is_equal
    try:
        return compare_in_worker(pairs, limit) == "equal"
    except WorkerError:
        return False


def _is_tractable(quantity: Quantity, limit: float) -> bool:
    """Whether a comparison with it ends in time."""
    if len(quantity.body) > MAX_CHARACTERS:
        return False
    if quantity.base or is_integer(quantity.body):
        return True
    try:
        compare_in_worker([(quantity.body, "0")], limit)
    except WorkerError:
        return False
    return True
