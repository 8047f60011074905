r"""Corrections to what math-verify reads; runs in a worker process.

It reads the imaginary unit as a letter, a root of odd index as the principal root, and `2(3)` as a
mixed number, five.
"""

from __future__ import annotations

import re
from typing import Any

from latex2sympy2_extended.logic import And
from latex2sympy2_extended.sets import FiniteSet
from sympy import Basic, Eq, Expr, I, Interval, MatrixBase, Mod, Ne, Pow, Symbol, Tuple
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.relational import Relational
from sympy.functions import binomial, ceiling, factorial, floor

__all__ = ["interpret", "prepare", "unify_letters"]

_MARK = "realroot"  # the name of a symbol that marks the index of a root
_ODD_ROOT = re.compile(r"\\sqrt\s*\[\s*(\d*[13579])\s*\]")
_TOKEN = r"(\d|\\(?:pi|alpha|beta|gamma|theta|lambda|phi|omega)(?![A-Za-z]))"
_OVER = re.compile(rf"\\[dtc]?frac\s*{_TOKEN}\s*(?:{_TOKEN}|([A-Za-z])|(?=\{{))")
_ROOT_OF_ONE = re.compile(r"\\sqrt\s*(\[[^\[\]]*\])\s*([A-Za-z\d])")
# Factors without a sign between them, except a mixed number.
_FACTORS = re.compile(
    r"(?:(?<![\w.^\\])(?<![_^] )\d+(?:\.\d+)?|\\frac\{[^{}]*\}\{[^{}]*\}|\))\s*(?=\(|\\binom)"
    r"|(?:\\frac\{[^{}]*\}\{[^{}]*\}|\))\s*(?=\\frac)"
)
_CIS = re.compile(
    r"(?:\\(?:text|operatorname)\s*\{\s*cis\s*\}|(?:\\|(?<![A-Za-z\\]))cis(?![A-Za-z]))\s*"
    r"(\([^()]*\)|\{(?:[^{}]|\{[^{}]*\})*\}|\\frac\{[^{}]*\}\{[^{}]*\}|\\[a-z]+|[\d.]+|[a-z])"
)
_POWER_OF_E = re.compile(r"\\[A-Za-z]+|e(?=\s*\^)")
_INDEXED = re.compile(r"_.*(?<![A-Za-z])i(?![A-Za-z])")


def prepare(latex: str) -> str:
    """LaTeX in which products have signs and roots of odd index a mark."""
    latex = _CIS.sub(r"e^{i(\1)}", latex)
    # In braces, so that a power of e with a decimal is not computed to a few digits.
    latex = _POWER_OF_E.sub(lambda match: "{e}" if match[0] == "e" else match[0], latex)
    latex = _OVER.sub(_in_braces, latex)
    latex = _ROOT_OF_ONE.sub(r"\\sqrt\1{\2}", latex)
    latex = _FACTORS.sub(lambda match: rf"{match[0]}\cdot ", latex)
    return _ODD_ROOT.sub(rf"\\sqrt[\1\\text{{{_MARK}}}]", latex)


def _in_braces(fraction: re.Match[str]) -> str:
    above, *below = fraction.groups()
    return rf"\frac{{{above}}}" + "".join(f"{{{part}}}" for part in below if part)


def interpret(side: Any) -> Any:
    r"""The object with i as the imaginary unit and real roots of odd index.

    Letters are complex numbers if it contains the imaginary unit, else real numbers.
    """
    letters = side.atoms(Symbol)
    names = {letter.name for letter in letters}
    is_complex = any(letter.name == "i" for letter in side.free_symbols) and not _has_index(side)
    if not is_complex and _MARK not in names and all(letter.is_real for letter in letters):
        return side
    meanings = {
        letter: Symbol(letter.name, real=None if is_complex else True) for letter in letters
    }
    if is_complex:
        meanings |= {letter: I for letter in letters if letter.name == "i"}
    return _rebuilt(side, meanings)


def unify_letters(left: Any, right: Any) -> tuple[Any, Any]:
    """Both sides, with complex letters if either side has complex letters."""
    if all(letter.is_real for side in (left, right) for letter in side.free_symbols):
        return left, right
    letters = left.atoms(Symbol) | right.atoms(Symbol)
    meanings = {letter: Symbol(letter.name) for letter in letters}
    return _rebuilt(left, meanings), _rebuilt(right, meanings)


def _has_index(side: Any) -> bool:
    """Whether the letter i is an index: bound, counted with, ordered, defined or a subscript."""
    unit = {letter for letter in side.atoms(Symbol) if letter.name == "i"}
    bound = [name for part in side.atoms(ExprWithLimits) for name in part.bound_symbols]
    counting = side.atoms(binomial, factorial, floor, ceiling, Mod)
    relations = side.atoms(Relational)
    orders = [relation for relation in relations if not isinstance(relation, (Eq, Ne))]
    return bool(
        unit & set(bound)
        or any(unit & part.free_symbols for part in (*counting, *orders))
        or any(relation.lhs in unit for relation in relations)
        or any(_INDEXED.search(letter.name) for letter in side.atoms(Symbol))
    )


def _rebuilt(side: Any, meanings: dict[Symbol, Basic]) -> Any:
    """The same object with other letters; containers keep the order of their values."""
    if isinstance(side, MatrixBase):
        return side.applyfunc(lambda part: _rebuilt(part, meanings))
    if isinstance(side, Expr):
        return _with_real_roots(side.xreplace(meanings))
    if isinstance(side, Interval):
        start, end = (_rebuilt(part, meanings) for part in (side.start, side.end))
        if start.has(I) or end.has(I):
            return Tuple(start, end) if side.left_open and side.right_open else side
        rebuilt = Interval(start, end, side.left_open, side.right_open)
        # As math-verify reads it where it knows the order of the ends.
        return rebuilt if isinstance(rebuilt, Interval) else Tuple(start, end)
    parts = [_rebuilt(part, meanings) for part in getattr(side, "_unsorted_args", side.args)]
    if isinstance(side, (FiniteSet, And, Tuple)) or not parts:
        return side.func(*parts)
    return side.func(*parts, evaluate=False)


def _with_real_roots(expression: Expr) -> Expr:
    marks = {symbol: 1 for symbol in expression.free_symbols if symbol.name == _MARK}
    if not marks:
        return expression
    marked = expression.replace(
        lambda part: isinstance(part, Pow) and bool(part.exp.free_symbols & marks.keys()),
        lambda part: _real_power(part.base, part.exp.subs(marks)),
    )
    return marked.subs(marks)


def _real_power(base: Expr, exponent: Expr) -> Expr:
    """A power with an odd denominator, up to its sign the same for a base and its negative."""
    value = base.evalf() if base.is_number else None
    is_negative = base.could_extract_minus_sign() if value is None else value.is_negative
    if not is_negative or not exponent.is_Rational:
        return Pow(base, exponent)
    return Pow(-1, exponent.p) * Pow(-base, exponent)
