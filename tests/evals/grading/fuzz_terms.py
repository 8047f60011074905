r"""Expressions that the fuzz writes, rewrites and breaks, and their values.

Independent of SymPy: a term writes its LaTeX and evaluates itself with mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

from mpmath import mp

__all__ = ["Point", "Term", "broken", "number", "rewritten", "variable_term"]

Point = dict[str, Fraction]


@dataclass(frozen=True)
class Term:
    """An operation on terms; a number, a name and a constant have `content` instead of `parts`."""

    kind: str
    parts: tuple[Term, ...] = ()
    content: Any = None

    def value(self, point: Point) -> Any:
        """The value at the current precision of mpmath."""
        if self.kind in LEAVES:
            return LEAVES[self.kind](self.content, point)
        return OPERATIONS[self.kind][1](*(part.value(point) for part in self.parts))

    def latex(self, source: Random) -> str:
        """A random form of it."""
        if self.kind == "number" and self.content.denominator > 1:
            return source.choice(_decimals(self.content) or _fractions(self.content))
        if self.kind in LEAVES:
            return str(self.content)
        forms = OPERATIONS[self.kind][0]
        return source.choice(forms)(*self._written(source))

    def _written(self, source: Random) -> list[str]:
        """The parts, in brackets where another operation could bind them."""
        left, right = source.choice([*[("(", ")")] * 4, (r"\left(", r"\right)")])
        texts = [part.latex(source) for part in self.parts]
        return [
            text if part.level >= needed else f"{left}{text}{right}"
            for text, part, needed in zip(texts, self.parts, NEEDED[self.kind], strict=True)
        ]

    @property
    def level(self) -> int:
        """The precedence of its operation."""
        if self.kind == "number":
            return ATOM if self.content >= 0 and self.content.denominator == 1 else SUM
        return LEVELS.get(self.kind, ATOM)


SUM, PRODUCT, POWER, ATOM = 1, 2, 3, 4
LEVELS = {
    "add": SUM, "sub": SUM, "neg": SUM, "mul": PRODUCT, "div": PRODUCT, "pow": POWER,
    "factorial": POWER, "exp": POWER, "ln": PRODUCT, "log": PRODUCT, "sin": PRODUCT,
    "cos": PRODUCT,
}  # fmt: skip
# The least precedence of the parts that need no brackets.
NEEDED = {
    "add": (SUM, PRODUCT), "sub": (SUM, PRODUCT), "neg": (PRODUCT,), "mul": (PRODUCT, PRODUCT),
    "div": (SUM, SUM), "pow": (ATOM, SUM), "root": (SUM,), "cube": (SUM,), "factorial": (ATOM,),
    "ln": (SUM,), "log": (SUM, SUM), "exp": (SUM,), "sin": (SUM,), "cos": (SUM,), "abs": (SUM,),
}  # fmt: skip


def _fractions(value: Fraction) -> list[str]:
    over, under = value.numerator, value.denominator
    sign = "-" if over < 0 else ""
    return [
        rf"\frac{{{over}}}{{{under}}}",
        rf"{sign}\dfrac{{{abs(over)}}}{{{under}}}",
        f"{over}/{under}",
    ]


def _decimals(value: Fraction) -> list[str]:
    """Decimal forms of at most three places, for some fractions."""
    thousandths = value * 1000
    return [f"{float(value)}"] if thousandths.denominator == 1 and value.numerator % 2 else []


def _variable(name: str, point: Point) -> Any:
    return mp.mpf(point[name].numerator) / point[name].denominator


LEAVES: dict[str, Callable[[Any, Point], Any]] = {
    "number": lambda content, point: mp.mpf(content.numerator) / content.denominator,
    "name": _variable,
    "constant": lambda content, point: mp.pi if content == r"\pi" else mp.e,
}
# Forms of an operation, given its parts, and its function.
OPERATIONS: dict[str, tuple[list[Callable[..., str]], Callable[..., Any]]] = {
    "add": ([lambda a, b: f"{a}+{b}", lambda a, b: f"{a} + {b}"], lambda a, b: a + b),
    "sub": ([lambda a, b: f"{a}-{b}", lambda a, b: f"{a} - {b}"], lambda a, b: a - b),
    "neg": ([lambda a: f"-{a}"], lambda a: -a),
    "mul": (
        [lambda a, b: rf"{a} \cdot {b}", lambda a, b: rf"{a}\times {b}", lambda a, b: f"{a}*{b}"],
        lambda a, b: a * b,
    ),
    "div": (
        [lambda a, b: rf"\frac{{{a}}}{{{b}}}", lambda a, b: f"({a})/({b})"],
        lambda a, b: a / b,
    ),
    "pow": ([lambda a, b: f"{a}^{{{b}}}"], lambda a, b: a**b),
    "root": ([lambda a: rf"\sqrt{{{a}}}"], mp.sqrt),
    "cube": ([lambda a: rf"\sqrt[3]{{{a}}}"], lambda a: mp.root(a, 3)),
    "factorial": ([lambda a: f"{a}!"], mp.factorial),
    "ln": ([lambda a: rf"\ln({a})"], mp.log),
    "log": ([lambda a, b: rf"\log_{{{a}}}({b})"], lambda a, b: mp.log(b) / mp.log(a)),
    "exp": ([lambda a: f"e^{{{a}}}"], mp.exp),
    "sin": ([lambda a: rf"\sin({a})", lambda a: rf"\sin\left({a}\right)"], mp.sin),
    "cos": ([lambda a: rf"\cos({a})", lambda a: rf"\cos\left({a}\right)"], mp.cos),
    "abs": ([lambda a: f"|{a}|"], abs),
}


def _int(value: int | Fraction) -> Term:
    return Term("number", content=Fraction(value))


def _term(kind: str, *parts: Term) -> Term:
    return Term(kind, parts)


PI, E = Term("constant", content=r"\pi"), Term("constant", content="e")
HALF_PI = _term("div", PI, _int(2))


def number(source: Random) -> Term:
    """A random exact number of any kind."""
    small, other = source.randint(1, 30), source.randint(2, 12)
    angle = _term("div", _term("mul", _int(small), PI), _int(other))
    kinds: list[Callable[[], Term]] = [
        lambda: _int(source.choice([small, -small, 10 ** source.randint(1, 6) + small])),
        lambda: Term("number", content=Fraction(small, other)),
        lambda: Term("number", content=Fraction(source.randint(1, 3999), 1000)),
        lambda: _term("add", _int(small), _term("root", _int(other))),
        lambda: _term("mul", _int(other), _term("root", _int(small))),
        lambda: _term("div", _int(1), _term("factorial", _int(source.choice([5, 20, 99, 600])))),
        lambda: _term("div", _int(small), _term("pow", _int(other), _int(source.randint(2, 99)))),
        lambda: _term("pow", _int(other), _int(source.randint(2, 40))),
        lambda: _term("pow", _int(10), _int(-source.randint(2, 40))),
        lambda: _term("cube", _int(small)),
        lambda: _term("log", _int(other), _int(small)),
        lambda: _term("sub", _term("ln", _int(other)), _term("root", _int(small))),
        lambda: _term("mul", _int(small), PI),
        lambda: _term("exp", Term("number", content=Fraction(-small, other))),
        lambda: _term(source.choice(["sin", "cos"]), angle),
        lambda: _term("add", E, angle),
    ]
    return source.choice(kinds)()


def variable_term(source: Random, depth: int = 2) -> Term:
    """A random expression in x, and sometimes y."""
    if depth == 0:
        name = Term("name", content=source.choice("xxxy"))
        return source.choice([name, name, _int(source.randint(1, 12))])
    inner = [variable_term(source, depth - 1) for _ in range(2)]
    kind = source.choice(["add", "sub", "mul", "mul", "div", "pow", "sin", "exp", "abs", "root"])
    if kind in ("add", "sub", "mul"):
        return _term(kind, *inner)
    if kind == "div":
        return _term("div", inner[0], _term("add", _term("pow", inner[1], _int(2)), _int(1)))
    if kind == "pow":
        return _term("pow", inner[0], _int(source.randint(2, 4)))
    if kind == "root":
        return _term("root", _term("add", _term("pow", inner[0], _int(2)), _int(3)))
    return _term(kind, inner[0] if depth == 1 else variable_term(source, 0))


def rewritten(term: Term, source: Random) -> Term:
    """The same value in another form."""
    term = Term(term.kind, tuple(rewritten(part, source) for part in term.parts), term.content)
    rules = [rule for rule in EQUALS.get(term.kind, []) if source.random() < 0.3]
    return source.choice(rules)(term, source) if rules else term


def broken(term: Term, source: Random) -> Term:
    """The term with a single change, which need not change its value."""
    if term.parts and source.random() < 0.75:
        index = source.randrange(len(term.parts))
        parts = list(term.parts)
        parts[index] = broken(parts[index], source)
        return Term(term.kind, tuple(parts))
    changes = [*CHANGES.get(term.kind, []), *CHANGES["any"]]
    return source.choice(changes)(term, source)


def _other_fraction(term: Term, source: Random) -> Term:
    factor = source.randint(2, 9)
    over, under = term.content.numerator * factor, term.content.denominator * factor
    return _term("div", _int(over), _int(under))


def _other_sum(term: Term, source: Random) -> Term:
    apart = source.randint(1, 9)
    return _term("add", Term("number", content=term.content - apart), _int(apart))


def _square_out(term: Term, source: Random) -> Term:
    base, power = term.parts
    if power.kind != "number" or power.content.denominator != 1 or power.content < 2:
        return term
    return _term("mul", _term("pow", base, _int(power.content - 1)), base)


def _multiply_out(term: Term, source: Random) -> Term:
    left, right = term.parts
    if right.kind not in ("add", "sub"):
        return _term("mul", right, left)
    return _term(right.kind, *(_term("mul", left, part) for part in right.parts))


def _larger_root(term: Term, source: Random) -> Term:
    factor = source.randint(2, 5)
    larger = _term("mul", _int(factor**2), term.parts[0])
    return _term("div", _term("root", larger), _int(factor))


def _smaller_factorial(term: Term, source: Random) -> Term:
    (argument,) = term.parts
    if argument.kind != "number" or argument.content < 2:
        return term
    return _term("mul", argument, _term("factorial", _int(argument.content - 1)))


EQUALS: dict[str, list[Callable[[Term, Random], Term]]] = {
    "number": [_other_fraction, _other_sum],
    "add": [lambda t, s: _term("add", t.parts[1], t.parts[0])],
    "sub": [lambda t, s: _term("neg", _term("sub", t.parts[1], t.parts[0]))],
    "mul": [lambda t, s: _term("mul", t.parts[1], t.parts[0]), _multiply_out],
    "div": [
        lambda t, s: _term("mul", t.parts[0], _term("pow", t.parts[1], _int(-1))),
        lambda t, s: _term("div", *(_term("mul", part, _int(3)) for part in t.parts)),
    ],
    "pow": [_square_out],
    "root": [_larger_root, lambda t, s: _term("pow", t.parts[0], _int(Fraction(1, 2)))],
    "factorial": [_smaller_factorial],
    "ln": [lambda t, s: _term("neg", _term("ln", _term("div", _int(1), t.parts[0])))],
    "log": [lambda t, s: _term("div", *(_term("ln", part) for part in reversed(t.parts)))],
    "exp": [lambda t, s: _term("div", _int(1), _term("exp", _term("neg", t.parts[0])))],
    "sin": [lambda t, s: _term("cos", _term("sub", HALF_PI, t.parts[0]))],
    "cos": [lambda t, s: _term("sin", _term("add", t.parts[0], HALF_PI))],
    "abs": [
        lambda t, s: _term("abs", _term("neg", t.parts[0])),
        lambda t, s: _term("root", _term("pow", t.parts[0], _int(2))),
    ],
}


def _almost(term: Term, source: Random) -> Term:
    """Off by one part in 10^7 to 10^40."""
    power = source.randint(7, 40)
    return _term("mul", term, _int(Fraction(10**power + 1, 10**power)))


CHANGES: dict[str, list[Callable[[Term, Random], Term]]] = {
    "any": [
        lambda t, s: _term("neg", t),
        lambda t, s: _term("mul", _int(s.choice([2, 10])), t),
        lambda t, s: _term("add", t, _term("pow", _int(10), _int(-s.randint(5, 30)))),
        _almost,
    ],
    "number": [
        lambda t, s: Term("number", content=t.content + s.choice([-1, 1])),
        lambda t, s: Term("number", content=t.content + Fraction(s.choice([-1, 1]), 1000)),
    ],
    "name": [lambda t, s: Term("name", content="y" if t.content == "x" else "x")],
    "sub": [lambda t, s: _term("sub", t.parts[1], t.parts[0])],
    "add": [lambda t, s: _term("sub", *t.parts)],
    "mul": [lambda t, s: _term("add", *t.parts)],
    "pow": [lambda t, s: _term("mul", *t.parts)],
    "sin": [lambda t, s: _term("cos", *t.parts)],
    "abs": [lambda t, s: t.parts[0]],
    "root": [lambda t, s: t.parts[0], lambda t, s: _term("cube", *t.parts)],
    "ln": [lambda t, s: _term("log", _int(10), *t.parts)],
}
