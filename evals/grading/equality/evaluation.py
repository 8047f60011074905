"""The values of expressions at a point, to as many digits as they need; runs in a worker process.

The numbers that an expression is computed from say how many digits those are: six times as many
as the largest has before the point, or the smallest behind it. A sum that cancels to a third of
them is zero. SymPy's own `evalf` evaluates the parts of a sum that cancels again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mpmath import mp
from sympy import (
    Abs,
    Add,
    Expr,
    Max,
    Min,
    Mod,
    Mul,
    Pow,
    Rational,
    Symbol,
    binomial,
    ceiling,
    exp,
    factorial,
    floor,
    gamma,
    log,
    preorder_traversal,
    sign,
)
from sympy.functions.elementary.hyperbolic import HyperbolicFunction, InverseHyperbolicFunction
from sympy.functions.elementary.trigonometric import (
    InverseTrigonometricFunction,
    TrigonometricFunction,
)

__all__ = ["MAX_DIGITS", "Point", "TooLargeError", "UndefinedError", "Values", "evaluate"]

Point = dict[Symbol, Expr]

MAX_DIGITS = 50_000
FIRST_DIGITS = 60
_MAX_EXPONENT = 1 << 40
_BY_NAME = (
    TrigonometricFunction,
    InverseTrigonometricFunction,
    HyperbolicFunction,
    InverseHyperbolicFunction,
)


class UndefinedError(ArithmeticError):
    """There is no such number: 1/0, or the larger of two complex numbers."""


class TooLargeError(ArithmeticError):
    """It takes more than `MAX_DIGITS` digits."""


class Values(NamedTuple):
    """What `evaluate` returns.

    Attributes:
        values: mpmath's numbers, one for each expression.
        tolerance: relative to the larger, below which a difference of two of them is none.
    """

    values: list[Any]
    tolerance: Any


def evaluate(sides: Sequence[Expr], point: Point) -> Values:
    """Evaluate expressions at a point that names all their variables.

    Raises:
        UndefinedError: one of them has no value there.
        TooLargeError: one of them is computed from a number that is too large or too small.
    """
    num_digits = FIRST_DIGITS
    while True:
        with mp.workdps(num_digits):
            walk = _Walk(point)
            values = [walk.value(side) for side in sides]
            needed = FIRST_DIGITS + 6 * walk.num_digits
            if needed <= num_digits:
                return Values(values, walk.tolerance)
        if needed > MAX_DIGITS:
            raise TooLargeError
        num_digits = needed


class _Walk:
    """Evaluates at mpmath's present precision.

    Attributes:
        num_digits: the most before or behind the point, of anything met so far.
        tolerance: what a sum cancels to, relative to its terms, if it is zero.
    """

    def __init__(self, point: Point) -> None:
        self.num_digits = 0
        self.tolerance = mp.mpf(10) ** (-(mp.dps // 3))
        self._point = point

    def value(self, side: Expr) -> Any:
        try:
            found = self._value(side)
        except (ZeroDivisionError, TypeError, ValueError) as error:
            raise UndefinedError from error
        if not mp.isfinite(found):
            raise UndefinedError
        if found:
            self._note(abs(mp.mag(found)))
        return found

    def _note(self, num_bits: int) -> None:
        self.num_digits = max(self.num_digits, int(num_bits * 0.30103))

    def _value(self, side: Expr) -> Any:
        if isinstance(side, Symbol):
            side = self._point[side]
        if isinstance(side, Rational):
            over, under = int(side.p), int(side.q)
            self._note(max(over.bit_length(), under.bit_length()))
            return mp.mpf(over) / under
        if not side.args or not self._is_known(side):
            return self._by_sympy(side)
        parts = [self.value(part) for part in side.args]
        if isinstance(side, Add):
            return self._sum(parts)
        if isinstance(side, Pow | exp):
            return _power(*(parts if isinstance(side, Pow) else (mp.e, *parts)))
        if isinstance(side, _BY_NAME):
            return self._zero_or(getattr(mp, type(side).__name__)(*parts), parts)
        found = _FUNCTIONS[type(side)](*parts)
        return self._zero_or(found, parts) if isinstance(side, log) else found

    def _is_known(self, side: Expr) -> bool:
        return isinstance(side, (Add, Pow, exp, *_BY_NAME)) or type(side) in _FUNCTIONS

    def _sum(self, terms: Sequence[Any]) -> Any:
        return self._zero_or(mp.fsum(terms), terms)

    def _zero_or(self, found: Any, parts: Sequence[Any]) -> Any:
        """Zero where what a sum, a sine or a logarithm leaves is noise in what it comes from."""
        return mp.mpf(0) if abs(found) <= max(map(abs, parts)) * self.tolerance else found

    def _by_sympy(self, side: Expr) -> Any:
        """A constant, such as pi, or what nothing here evaluates."""
        names = {part for part in preorder_traversal(side) if isinstance(part, Symbol)}
        point = {name: value for name, value in self._point.items() if name in names}
        found = side.evalf(mp.dps, subs=point)
        if not found.is_number:
            raise UndefinedError
        return found._to_mpmath(mp.prec)


def _power(base: Any, exponent: Any) -> Any:
    if exponent and base and abs(exponent) * (1 + abs(mp.mag(base))) > _MAX_EXPONENT:
        raise TooLargeError
    return mp.power(base, exponent)


def _whole(number: Any) -> Any:
    """The largest integer below; what differs from an integer by noise only is that integer."""
    nearest = mp.nint(number)
    is_whole = abs(number - nearest) < mp.mpf(10) ** (-(mp.dps // 3))
    return nearest if is_whole else mp.floor(number)


def _product(*factors: Any) -> Any:
    return mp.fprod(factors)


def _logarithm(number: Any, base: Any = None) -> Any:
    return mp.log(number) if base is None else mp.log(number) / mp.log(base)


_FUNCTIONS: dict[type, Callable[..., Any]] = {
    Mul: _product,
    Abs: abs,
    Max: max,
    Min: min,
    sign: mp.sign,
    floor: _whole,
    ceiling: lambda number: -_whole(-number),
    Mod: lambda over, under: over - under * _whole(over / under),
    log: _logarithm,
    factorial: mp.factorial,
    gamma: mp.gamma,
    binomial: mp.binomial,
}
