r"""Random pairs of answers against a numeric check; the grader must accept no refuted pair.

python -m tests.evals.grading.fuzz --pairs 10000 --seed 0

A gold answer is a number, an expression in x and y, a list, an ordered tuple, an interval, an
equation or a ratio. The answer is the gold answer in another form, or with a single change, or the
same numbers in another kind. mpmath decides with 300 and 600 digits, at several random points, if
it is right.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from random import Random
from typing import Any

from mpmath import mp

from evals.grading.mathematics import judge
from tests.evals.grading.fuzz_terms import Point, Term, broken, number, rewritten, variable_term

__all__ = ["Pair", "equal", "main", "pairs", "results"]

NUM_POINTS = 6
TINY = mp.mpf(10) ** -150
NUM_THREADS = 4
SHOWN = 20


@dataclass(frozen=True)
class Answer:
    """Terms and the kind of their collection.

    Attributes:
        kind: value, list, tuple, interval, equation or ratio.
        terms: the two sides of an equation, the two ends of an interval.
        is_closed: whether an interval is closed at its left and its right end.
    """

    kind: str
    terms: tuple[Term, ...]
    is_closed: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Pair:
    """Two answers in LaTeX; `is_equal` is the result of the numeric check."""

    kind: str
    gold: str
    answer: str
    is_equal: bool


def pairs(num_pairs: int, seed: int) -> list[Pair]:
    """The same for the same seed."""
    source = Random(seed)
    drawn = list[Pair]()
    while len(drawn) < num_pairs:
        gold = _answer(source)
        answer = source.choice([_rewritten, _rewritten, _broken, _of_another_kind])(gold, source)
        is_equal = _is_equal(gold, answer)
        if is_equal is not None:
            written = _written(gold, source), _written(answer, source)
            drawn.append(Pair(f"{gold.kind} ~ {answer.kind}", *written, is_equal))
    return drawn


def results(tested: Sequence[Pair]) -> list[tuple[Pair, str]]:
    """Pairs with "accepted", "rejected" or the status of a pair that was not judged."""

    def outcome(pair: Pair) -> str:
        score = judge(pair.answer, pair.gold)
        if score.status != "judged":
            return score.status
        return "accepted" if score.correct else "rejected"

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return list(zip(tested, threads.map(outcome, tested), strict=True))


def _answer(source: Random) -> Answer:
    kind = source.choice(["value"] * 8 + ["list", "tuple", "interval", "equation", "ratio"])
    if kind == "value":
        return Answer(kind, (source.choice([number, variable_term])(source),))
    if kind == "equation":
        return Answer(kind, (variable_term(source), variable_term(source, 1)))
    if kind == "ratio":
        terms = (Term("number", content=Fraction(source.randint(1, 20))) for _ in range(3))
        return Answer(kind, tuple(terms))
    terms = (number(source) for _ in range(2 if kind == "interval" else source.randint(2, 3)))
    is_closed = source.random() < 0.5, source.random() < 0.5
    answer = Answer(kind, tuple(terms), is_closed)
    if kind == "interval":
        return replace(answer, terms=tuple(sorted(answer.terms, key=lambda term: term.value({}))))
    return answer


def _rewritten(answer: Answer, source: Random) -> Answer:
    terms = [rewritten(term, source) for term in answer.terms]
    if answer.kind == "list":
        source.shuffle(terms)
    if answer.kind == "ratio":
        factor = source.randint(1, 9)
        terms = [Term("number", content=term.content * factor) for term in answer.terms]
    if answer.kind == "equation":
        scale = Term("number", content=Fraction(source.randint(2, 9)))
        terms = [Term("mul", (scale, term)) for term in terms]
    return replace(answer, terms=tuple(terms))


def _broken(answer: Answer, source: Random) -> Answer:
    terms = list(answer.terms)
    if answer.kind == "interval" and source.random() < 0.5:
        left, right = answer.is_closed
        return replace(_rewritten(answer, source), is_closed=(left, not right))
    if len(terms) > 1 and source.random() < 0.4:
        source.shuffle(terms)
    elif answer.kind == "ratio":
        index = source.randrange(len(terms))
        terms[index] = Term("number", content=terms[index].content + 1)
    else:
        index = source.randrange(len(terms))
        terms[index] = broken(terms[index], source)
    return replace(answer, terms=tuple(terms))


def _of_another_kind(answer: Answer, source: Random) -> Answer:
    """The same numbers in another kind."""
    kinds = {
        "value": ["list"],
        "list": ["tuple", "interval"],
        "tuple": ["list"],
        "interval": ["list"],
        "equation": ["value"],
        "ratio": ["list"],
    }
    kind = source.choice(kinds[answer.kind])
    terms = answer.terms
    if answer.kind == "value":
        terms = (*terms, Term("number", content=Fraction(source.randint(1, 9))))
    if kind == "interval":
        terms = tuple(sorted(terms[:2], key=lambda term: term.value({})))
    return replace(answer, kind=kind, terms=terms[1:] if kind == "value" else terms)


def _written(answer: Answer, source: Random) -> str:
    terms = [term.latex(source) for term in answer.terms]
    joined = ", ".join(terms)
    if answer.kind == "interval":
        return _interval(terms, answer.is_closed, source)
    forms = {
        "value": [joined],
        "list": [rf"\{{{joined}\}}", r" \text{ or } ".join(terms), "x=" + " or x=".join(terms)],
        "tuple": [f"({joined})", rf"\left({joined}\right)"],
        "equation": ["=".join(terms)],
        "ratio": [":".join(terms)],
    }
    return source.choice(forms[answer.kind])


def _interval(ends: list[str], is_closed: tuple[bool, bool], source: Random) -> str:
    (left, right), (low, high) = is_closed, ends
    brackets = "[" if left else "(", "]" if right else ")"
    signs = [r" \le " if is_end_closed else " < " for is_end_closed in is_closed]
    forms = [f"{low}{signs[0]}x{signs[1]}{high}"]
    if any(is_closed):  # an open interval would be written as a pair
        forms.append(f"{brackets[0]}{low}, {high}{brackets[1]}")
    return source.choice(forms)


def _is_equal(gold: Answer, answer: Answer) -> bool | None:
    """Whether they are equal; None where the digits do not decide."""
    if gold.kind != answer.kind:
        repeats = [_same(*two) for two in combinations(gold.terms + answer.terms, 2)]
        return None if all(repeats) else False
    if gold.kind == "ratio":
        left, right = ([term.content for term in side.terms] for side in (gold, answer))
        return all(a * right[0] == b * left[0] for a, b in zip(left, right, strict=True))
    if gold.kind == "equation":
        return _in_proportion(gold.terms, answer.terms)
    if gold.kind == "interval" and gold.is_closed != answer.is_closed:
        return False
    if gold.kind != "list":
        same = [_same(*sides) for sides in zip(gold.terms, answer.terms, strict=True)]
        return False if False in same else None if None in same else True
    return all(
        any(_same(term, other) for other in others.terms)
        for side, others in ((gold, answer), (answer, gold))
        for term in side.terms
    )


def _same(left: Term, right: Term) -> bool | None:
    return equal(left.value, right.value)


def _in_proportion(gold: Sequence[Term], answer: Sequence[Term]) -> bool | None:
    """Whether two equations, as differences of their sides, differ by a constant factor."""

    fixed = {"x": Fraction(7, 5), "y": Fraction(-11, 4)}

    def difference(sides: Sequence[Term], point: Point) -> Any:
        return sides[0].value(point) - sides[1].value(point)

    if not all(abs(difference(sides, fixed)) > 1e-9 for sides in (gold, answer)):
        return None  # 0 = 0, or almost
    return equal(
        lambda point: difference(gold, point) * difference(answer, fixed),
        lambda point: difference(answer, point) * difference(gold, fixed),
    )


def equal(left: Callable[[Point], Any], right: Callable[[Point], Any]) -> bool | None:
    """Whether they agree at every point, and far better with twice the digits."""
    source = Random(0)
    num_tested = 0
    for index in range(NUM_POINTS):
        scale = (1, 3, 10)[index % 3]
        point = {name: Fraction(source.randint(-997, 997) * scale, 997) for name in "xy"}
        try:
            distances = [_distance(digits, left, right, point) for digits in (300, 600)]
        except (ZeroDivisionError, OverflowError, ValueError):
            continue
        num_tested += 1
        (coarse, coarse_largest), (fine, fine_largest) = distances
        are_zero = fine_largest <= coarse_largest * TINY
        if not are_zero and fine > max(coarse * TINY, fine_largest * TINY**3):
            return False
    return True if num_tested > NUM_POINTS // 2 else None


def _distance(
    num_digits: int, left: Callable[[Point], Any], right: Callable[[Point], Any], point: Point
) -> tuple[Any, Any]:
    """The distance of two values at a point, and the larger value."""
    with mp.workdps(num_digits):
        values = left(point), right(point)
        return abs(values[0] - values[1]), max(map(abs, values))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table and misjudged pairs; returns 1 if a wrong answer was accepted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    judged = results(pairs(options.pairs, options.seed))
    counts = Counter((pair.is_equal, outcome) for pair, outcome in judged)
    for (is_equal, outcome), count in sorted(counts.items()):
        print(f"{'equal' if is_equal else 'different'}, {outcome}: {count:,}")
    wrong = [pair for pair, outcome in judged if outcome == "accepted" and not pair.is_equal]
    missed = [pair for pair, outcome in judged if outcome != "accepted" and pair.is_equal]
    unjudged = [pair for pair, outcome in judged if outcome in ("timed_out", "unjudged")]
    for title, shown in (
        ("accepted, but different", wrong),
        ("not accepted, but equal", missed),
        ("not judged", unjudged),
    ):
        for pair in shown[:SHOWN]:
            print(f"{title} ({pair.kind}): {pair.gold}   ~   {pair.answer}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
