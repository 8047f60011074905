r"""The exact value of arithmetic on numbers: `2^3\cdot 5`, `\sqrt{1600}`, `4!\cdot 4`, `\binom52`.

Only text with a single reading: no mixed number, no factor without a sign after a division, no
digits of which TeX would take the first (`2^10`). Numbers beyond a limit are refused, so that no
text costs more than a few milliseconds.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from fractions import Fraction

__all__ = ["evaluate"]

MAX_CHARACTERS = 200
MAX_BITS = 4096
MAX_COUNT = 500  # of a factorial or a binomial

# LaTeX to Python, innermost first, until nothing changes. `//` is the line of a fraction; `@` joins
# factors without a sign.
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:cdot|times)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"(?<![\d.])0+(?=\d)", ""),
        (r"\\[dt]?(frac|binom)\s*(\d)\s*(?=\d|\{)", r"\\\1{\2}"),
        (r"\\[dt]?(frac|binom)\s*(\{[^{}]*\})\s*(\d)", r"\\\1\2{\3}"),
        (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)//(\2))"),
        (r"\\[dt]?binom\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"comb((\1),(\2))"),
        (r"\\sqrt\s*\[(\d)\]\s*\{([^{}]*)\}", r"root((\2),\1)"),
        (r"\\sqrt\s*(?:\{([^{}]*)\}|(\d)(?![\d.]))", r"root((\1\2),2)"),
        (r"\^\s*(?:\{([^{}]*)\}|(\d)(?![\d.]))(?!\s*(?:[!^]|\*\*))", r"**(\1\2)"),
        (r"(?<![\d.])(?<!\*\*)(\d+|\([^()]*\))\s*!(?!\s*[!^])", r"factorial(\1)"),
        (r"(?<![\\}\]^A-Za-z\d])\{([^{}]*)\}", r"(\1)"),
    )
]
_BRACES = re.compile(r"\s*(?<!\\)([{}])\s*")
_NAME = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
_FACTORS = re.compile(r"(?<=[\d)])\s*(?=[a-z(])")
_PYTHON = re.compile(r"(?:factorial|comb|root|\d+|\d{1,6}\.\d{1,9}|[-+*/@(), ])*")


def evaluate(latex: str) -> Fraction | None:
    """The value; None for a text that is not arithmetic, or beyond a limit."""
    if len(latex) > MAX_CHARACTERS or _NAME.search(latex):
        return None
    text, before = _BRACES.sub(r"\1", latex.strip()), ""
    while text != before:
        before = text
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
    text = _FACTORS.sub("@", text)
    if not _PYTHON.fullmatch(text):
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    """The value of a node; ValueError unless it is exact, unambiguous and within the limits."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return _bounded(Fraction(str(number)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            if isinstance(operator, ast.MatMult) and not _is_clear(left, right):
                raise ValueError(ast.unparse(node))
            return _bounded(_OPERATORS[type(operator)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _bounded(Fraction(_FUNCTIONS[name](*map(_value, arguments))))
    raise ValueError(ast.unparse(node))


def _is_clear(left: ast.expr, right: ast.expr) -> bool:
    r"""Whether factors without a sign between them have a single reading; `6/2(3)` has two."""
    match left, right:
        case (ast.BinOp(op=ast.Div()), _) | (ast.Constant(), ast.BinOp(op=ast.FloorDiv())):
            return False
    return True


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > MAX_BITS:
        raise ValueError(f"more than {MAX_BITS} bits")
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) * _bits(base) > MAX_BITS:
        raise ValueError(f"{exponent} is not a small whole exponent")
    return Fraction(base ** int(exponent))


def _factorial(argument: Fraction) -> int:
    return math.factorial(_count(argument))


def _binomial(above: Fraction, below: Fraction) -> int:
    return math.comb(_count(above), _count(below))


def _count(value: Fraction) -> int:
    if value.denominator != 1 or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{value} is not a whole number from 0 to {MAX_COUNT}")
    return int(value)


def _root(value: Fraction, index: Fraction) -> Fraction:
    """The real root of a perfect power."""
    if value < 0 and index % 2 == 1:
        return -_root(-value, index)
    root = Fraction(*(_whole_root(part, int(index)) for part in value.as_integer_ratio()))
    if root**index != value:
        raise ValueError(f"{value} is not a perfect power")
    return root


def _whole_root(value: int, index: int) -> int:
    """The largest integer whose power does not exceed the value, by bisection."""
    low, high = 0, 1 << (value.bit_length() // index + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**index <= value else (low, middle)
    return low


_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.MatMult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left / right,
    ast.Pow: _power,
}
_FUNCTIONS: dict[str, Callable[..., Fraction | int]] = {
    "factorial": _factorial,
    "comb": _binomial,
    "root": _root,
}
