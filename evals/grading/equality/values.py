"""Whether two SymPy expressions have the same value; runs in a worker process.

Numbers are equal if they agree in many more digits than they have themselves, functions if they do
so at many points. A decimal is the exact number that it states; a lone decimal of at least six
digits may also be a rounded number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sympy import (
    Abs,
    Add,
    Basic,
    Expr,
    Float,
    I,
    Integral,
    Limit,
    Max,
    Min,
    Mod,
    Mul,
    Pow,
    Product,
    Rational,
    Sum,
    Symbol,
    UnevaluatedExpr,
    binomial,
    ceiling,
    factorial,
    floor,
    gamma,
    nan,
    sign,
    simplify,
    zoo,
)
from sympy.core.function import AppliedUndef

from evals.grading.equality.evaluation import Point, TooLargeError, UndefinedError, evaluate

__all__ = ["exact", "has_value", "points", "rounds_to", "same_value"]

RELATIVE_TOLERANCE = 1.000001e-6
SIX_PLACES = 1e-6
NUM_DIGITS_ROUNDED = 6
NUM_POINTS = 8
NUM_POINTS_IN_PIECES = 64
MIN_TESTED = 4

_IN_PIECES = (Abs, Max, Min, Mod, ceiling, floor, sign)
_STEEP = (factorial, binomial, gamma)
_UNDONE = (Sum, Product, Integral, Limit)


def same_value(left: Expr, right: Expr) -> bool:
    """Whether the values are equal wherever both are defined."""
    if (left.is_Float or right.is_Float) and _rounds_alike(left, right):
        return True
    left, right = exact(left), exact(right)
    if not (has_value(left) and has_value(right)):
        return False
    if left == right:
        return True
    is_infinite = left.is_infinite or right.is_infinite
    return not is_infinite and _agree_everywhere(left, right)


def has_value(side: Expr) -> bool:
    """Whether it is defined anywhere; 1/0 and 0/0 are not."""
    if side.has(nan, zoo):
        return False
    if side.is_infinite:
        return True
    for point in points(side):
        try:
            evaluate([exact(side)], point)
        except UndefinedError:
            continue
        except TooLargeError:
            pass
        return True
    return False


def rounds_to(side: Expr, decimal: Decimal) -> bool:
    """Whether a number, rounded to the places of a decimal, equals it."""
    distance = _distance(side, Rational(str(decimal)))
    return distance is not None and distance[0] <= 0.5000001 * 10.0 ** int(
        decimal.as_tuple().exponent
    )


def exact(side: Basic) -> Any:
    """Decimals as fractions, values of unknown functions as variables, sums evaluated."""
    side = side.replace(lambda part: isinstance(part, UnevaluatedExpr), lambda part: part.args[0])
    decimals = {part: Rational(str(_decimal(part))) for part in side.atoms(Float)}
    names = {part: Symbol(str(part), real=True) for part in side.atoms(AppliedUndef)}
    if decimals or names:
        side = side.xreplace({**decimals, **names})
    return side.doit() if side.has(*_UNDONE) else side


def points(*sides: Expr) -> Iterator[Point]:
    """Points at which to compare: of both signs, small, large, and near the numbers in the sides.

    Letters that are not declared real get complex values.
    """
    names = sorted(set().union(*(side.free_symbols for side in sides)), key=str)
    if not names:
        yield {}
        return
    source = random.Random(0)
    marks = sorted(set().union(*(side.atoms(Rational) for side in sides)))
    marks = [mark for mark in marks if abs(mark) < 10**6]
    is_in_pieces = any(map(_is_in_pieces, sides))
    scales = (1, 4) if any(side.has(*_STEEP) for side in sides) else (1, 4, 16, 1000)
    for index in range(NUM_POINTS_IN_PIECES if is_in_pieces else NUM_POINTS):
        scale = scales[index % len(scales)]
        point: Point = {name: scale * _draw(source) for name in names}
        if marks and index % 2:
            name = source.choice(names)
            point[name] = source.choice((-1, 1)) * source.choice(marks) + point[name] / scale
        yield {
            name: value if name.is_real else value + I * _draw(source)
            for name, value in point.items()
        }


def _draw(source: random.Random) -> Rational:
    return Rational(source.randint(-9973, 9973), 9973)


def _is_in_pieces(side: Expr) -> bool:
    """Whether it may be defined piecewise, as |x| and the root of x^2 are."""
    return side.has(*_IN_PIECES) or any(
        power.base.free_symbols and not power.exp.is_integer for power in side.atoms(Pow)
    )


def _agree_everywhere(left: Expr, right: Expr) -> bool:
    num_tested = 0
    for point in points(left, right):
        agrees = _agree_at(left, right, point)
        if agrees is False:
            return False
        num_tested += agrees is True
    if num_tested >= (MIN_TESTED if left.free_symbols or right.free_symbols else 1):
        return True
    return bool(simplify(left - right) == 0)


def _agree_at(left: Expr, right: Expr, point: Point) -> bool | None:
    """Whether they agree at a point; None where that cannot be decided."""
    try:
        (left_value, right_value), tolerance = evaluate([left, right], point)
    except UndefinedError:
        return None
    except TooLargeError:
        return None if _may_be_equal(left, right, point) else False
    largest = max(abs(left_value), abs(right_value))
    return bool(abs(left_value - right_value) <= tolerance * largest)


def _may_be_equal(left: Expr, right: Expr, point: Point) -> bool:
    """Whether the first digits of huge numbers are equal."""
    difference = Add(left, Mul(-1, right, evaluate=False), evaluate=False).evalf(15, subs=point)
    parts = difference.as_real_imag()
    return not any(part.is_Float and part._prec > 1 and part != 0 for part in parts)


def _rounds_alike(left: Expr, right: Expr) -> bool:
    """Whether two numbers agree in the places of the shorter decimal, at least six."""
    unit = max(_last_place(side) for side in (left, right) if side.is_Float)
    distances = _distance(exact(left), exact(right)) if unit else None
    if distances is None:
        return False
    distance, largest = distances
    return distance <= min(unit, SIX_PLACES) / 2 and distance <= RELATIVE_TOLERANCE * largest


def _distance(left: Expr, right: Expr) -> tuple[float, float] | None:
    """The distance of two numbers, and the larger number; None unless both are numbers."""
    if left.free_symbols or right.free_symbols:
        return None
    try:
        (left_value, right_value), _ = evaluate([left, right], {})
    except (UndefinedError, TooLargeError):
        return None
    largest = max(abs(left_value), abs(right_value))
    return float(abs(left_value - right_value)), float(largest)


def _last_place(side: Float) -> float:
    """The last place of a decimal; 0 where it has fewer than six digits and places."""
    _, digits, exponent = _decimal(side).as_tuple()
    places = -min(int(exponent), 0)
    return 10.0**-places if max(len(digits), places) >= NUM_DIGITS_ROUNDED else 0.0


def _decimal(side: Float) -> Decimal:
    """A decimal as written, without the zeros at its end."""
    return Decimal(str(side)).normalize()
