r"""What math-verify reads otherwise than people mean it; runs in a worker process.

For it the imaginary unit is a letter, a root of odd index the principal one, and `2(3)` a mixed
number, five.
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

__all__ = ["alike", "prepare", "settle"]

_MARK = "realroot"  # the name of a symbol that stands in the index of a root
_ODD_ROOT = re.compile(r"\\sqrt\s*\[\s*(\d*[13579])\s*\]")
_TOKEN = r"(\d|\\(?:pi|alpha|beta|gamma|theta|lambda|phi|omega)(?![A-Za-z]))"
_OVER = re.compile(rf"\\[dtc]?frac\s*{_TOKEN}\s*(?:{_TOKEN}|([A-Za-z])|(?=\{{))")
_ROOT_OF_ONE = re.compile(r"\\sqrt\s*(\[[^\[\]]*\])\s*([A-Za-z\d])")
# Factors without a sign between them, a mixed number aside.
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
    """LaTeX in which products have signs, and roots of odd index a mark."""
    latex = _CIS.sub(r"e^{i(\1)}", latex)
    # In braces, lest a power of e with a decimal be computed, to a few digits only.
    latex = _POWER_OF_E.sub(lambda match: "{e}" if match[0] == "e" else match[0], latex)
    latex = _OVER.sub(_in_braces, latex)
    latex = _ROOT_OF_ONE.sub(r"\\sqrt\1{\2}", latex)
    latex = _FACTORS.sub(lambda match: rf"{match[0]}\cdot ", latex)
    return _ODD_ROOT.sub(rf"\\sqrt[\1\\text{{{_MARK}}}]", latex)


def _in_braces(fraction: re.Match[str]) -> str:
    above, *below = fraction.groups()
    return rf"\frac{{{above}}}" + "".join(f"{{{each}}}" for each in below if each)


def settle(read: Any) -> Any:
    r"""What was read, with the imaginary unit for the letter, and real roots of odd index.

    Letters are real numbers where there is no imaginary unit, and complex ones where there is.
    """
    letters = read.atoms(Symbol)
    names = {letter.name for letter in letters}
    is_complex = any(each.name == "i" for each in read.free_symbols) and not _has_index(read)
    if not is_complex and _MARK not in names and all(each.is_real for each in letters):
        return read
    meanings = {each: Symbol(each.name, real=None if is_complex else True) for each in letters}
    if is_complex:
        meanings |= {each: I for each in letters if each.name == "i"}
    return _rebuilt(read, meanings)


def alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Both, with complex letters where either has them."""
    if all(each.is_real for side in (left, right) for each in side.free_symbols):
        return left, right
    letters = left.atoms(Symbol) | right.atoms(Symbol)
    meanings = {each: Symbol(each.name) for each in letters}
    return _rebuilt(left, meanings), _rebuilt(right, meanings)


def _has_index(read: Any) -> bool:
    """Whether the letter i counts something: it is bound, ordered, defined or a subscript."""
    unit = {each for each in read.atoms(Symbol) if each.name == "i"}
    bound = [name for each in read.atoms(ExprWithLimits) for name in each.bound_symbols]
    counting = read.atoms(binomial, factorial, floor, ceiling, Mod)
    relations = read.atoms(Relational)
    return bool(
        unit & set(bound)
        or any(unit & each.free_symbols for each in counting)
        or any(unit & each.free_symbols for each in relations if not isinstance(each, (Eq, Ne)))
        or any(each.lhs in unit for each in relations)
        or any(_INDEXED.search(each.name) for each in read.atoms(Symbol))
    )


def _rebuilt(read: Any, meanings: dict[Symbol, Basic]) -> Any:
    """The same with other letters; what holds several values keeps their order."""
    if isinstance(read, MatrixBase):
        return read.applyfunc(lambda each: _rebuilt(each, meanings))
    if isinstance(read, Expr):
        return _with_real_roots(read.xreplace(meanings))
    parts = getattr(read, "_unsorted_args", read.args)
    if isinstance(read, Interval):
        start, end = (_rebuilt(each, meanings) for each in (read.start, read.end))
        if start.has(I) or end.has(I):
            return Tuple(start, end) if read.left_open and read.right_open else read
        rebuilt = Interval(start, end, read.left_open, read.right_open)
        # As math-verify reads it where it knows the order of the ends.
        return rebuilt if isinstance(rebuilt, Interval) else Tuple(start, end)
    parts = [_rebuilt(each, meanings) for each in parts]
    if isinstance(read, (FiniteSet, And, Tuple)) or not parts:
        return read.func(*parts)
    return read.func(*parts, evaluate=False)


def _with_real_roots(expression: Expr) -> Expr:
    if not any(each.name == _MARK for each in expression.free_symbols):
        return expression
    marks = {each: 1 for each in expression.free_symbols if each.name == _MARK}
    marked = expression.replace(
        lambda each: isinstance(each, Pow) and bool(each.exp.free_symbols & marks.keys()),
        lambda each: _real_power(each.base, each.exp.subs(marks)),
    )
    return marked.subs(marks)


def _real_power(base: Expr, exponent: Expr) -> Expr:
    """A power with an odd denominator; the same for a base and for what it is the negative of."""
    value = base.evalf() if base.is_number else None
    is_negative = base.could_extract_minus_sign() if value is None else value.is_negative
    if not is_negative or not exponent.is_Rational:
        return Pow(base, exponent)
    return Pow(-1, exponent.p) * Pow(-base, exponent)
