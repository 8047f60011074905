"""The values of expressions at a point, to as many digits as they need; runs in a worker process.

The numbers within an expression determine the digits: six times as many as the largest number has
before the point, or the smallest after it. A sum that cancels to a third of them is zero. SymPy's
`evalf` would evaluate the parts of such a sum again and again.
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

__all__ = ["Point", "TooLargeError", "UndefinedError", "Values", "evaluate"]

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
    """The value does not exist: 1/0, or the larger of two complex numbers."""


class TooLargeError(ArithmeticError):
    """The value needs more than `MAX_DIGITS` digits."""


class Values(NamedTuple):
    """Values of expressions.

    Attributes:
        values: an mpmath number per expression.
        tolerance: two values are equal if they differ by at most this part of the larger.
    """

    values: list[Any]
    tolerance: Any


def evaluate(sides: Sequence[Expr], point: Point) -> Values:
    """Evaluate expressions at a point that names all their variables.

    Raises:
        UndefinedError: an expression has no value there.
        TooLargeError: an expression contains a number that is too large or too small.
    """
    num_digits = FIRST_DIGITS
    while True:
        with mp.workdps(num_digits):
            evaluator = _Evaluator(point)
            values = [evaluator.value(side) for side in sides]
            needed = FIRST_DIGITS + 6 * evaluator.num_digits
            if needed <= num_digits:
                return Values(values, evaluator.tolerance)
        if needed > MAX_DIGITS:
            raise TooLargeError
        num_digits = needed


class _Evaluator:
    """Evaluates at the current precision of mpmath.

    Attributes:
        num_digits: the most digits before or after the point of any number so far.
        tolerance: a sum that cancels to this part of its terms is zero.
    """

    def __init__(self, point: Point) -> None:
        self.num_digits = 0
        self.tolerance = mp.mpf(10) ** (-(mp.dps // 3))
        self._point = point

    def value(self, side: Expr) -> Any:
        try:
            value = self._value(side)
        except (ZeroDivisionError, TypeError, ValueError) as error:
            raise UndefinedError from error
        if not mp.isfinite(value):
            raise UndefinedError
        if value:
            self._note(abs(mp.mag(value)))
        return value

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
        value = _FUNCTIONS[type(side)](*parts)
        return self._zero_or(value, parts) if isinstance(side, log) else value

    def _is_known(self, side: Expr) -> bool:
        return isinstance(side, (Add, Pow, exp, *_BY_NAME)) or type(side) in _FUNCTIONS

    def _sum(self, terms: Sequence[Any]) -> Any:
        return self._zero_or(mp.fsum(terms), terms)

    def _zero_or(self, value: Any, parts: Sequence[Any]) -> Any:
        """Zero where the value of a sum, sine or logarithm is rounding noise of its parts."""
        return mp.mpf(0) if abs(value) <= max(map(abs, parts)) * self.tolerance else value

    def _by_sympy(self, side: Expr) -> Any:
        """The value of a constant, such as pi, or of a function that is not listed here."""
        names = {part for part in preorder_traversal(side) if isinstance(part, Symbol)}
        point = {name: value for name, value in self._point.items() if name in names}
        value = side.evalf(mp.dps, subs=point)
        if not value.is_number:
            raise UndefinedError
        return value._to_mpmath(mp.prec)


def _power(base: Any, exponent: Any) -> Any:
    if exponent and base and abs(exponent) * (1 + abs(mp.mag(base))) > _MAX_EXPONENT:
        raise TooLargeError
    return mp.power(base, exponent)


def _whole(number: Any) -> Any:
    """The largest integer below; a number within rounding noise of an integer is that integer."""
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
