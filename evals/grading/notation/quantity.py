r"""Quantities: the value of an answer with its unit, percent sign, number base and brackets.

Pure functions of strings. The rules, which reject an ambiguous text:

- A unit that only one side names does not matter; two different units do.
- A percentage against a percentage is compared as written; a gold answer in percent also accepts
  the bare number of percents, or the fraction. Against a bare gold answer a percentage is in
  percents where the gold answer is a number over 1, else a fraction.
- Brackets give the kind of a list: `(…)` is ordered, `\{…\}` is not. A bare list has the kind of
  the other side, but is not ordered where a word joins it (`1 or 2`), it contains `\pm`, or a name
  repeats.
- Two different number bases are two different numbers.
- A modulus is a unit; the operation `\bmod` is a unit only after a value that it does not change.
- An equation is a value only if its left side is just a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from evals.grading.notation.chain import is_name
from evals.grading.notation.latex import tidy, top_level_parts
from evals.grading.notation.ratios import compare_ratios
from evals.grading.notation.units import PERCENT, split_unit

__all__ = ["Quantity", "comparisons", "is_equation", "read"]

Brackets = Literal["single", "list", "tuple", "set"]

_INNER_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*\\?%")
_BASE = re.compile(r"(?P<digits>\d[0-9A-Z]*)_\s*\{?\s*(?P<base>\d+)\s*\}?")
_BOUNDS = re.compile(r"_\s*\{[^{}]*=[^{}]*\}")
_JOINED = re.compile(r"\b(?:and|or)\b|\\(?:pm|mp)(?![A-Za-z])|[±∓]")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")


@dataclass(frozen=True)
class Quantity:
    """An answer taken apart.

    Attributes:
        body: LaTeX of the value.
        unit: uniform name; None without a unit.
        is_percent: whether a percent sign followed the value.
        base: number base, given as a subscript.
        is_joined: whether a word or a double sign joins its parts, so that they have no order.
    """

    body: str
    unit: str | None = None
    is_percent: bool = False
    base: int | None = None
    is_joined: bool = False

    @property
    def brackets(self) -> Brackets:
        if len(top_level_parts(self.body)) > 1:
            return "list"
        for brackets, opening, closing in (("tuple", "(", ")"), ("set", r"\{", r"\}")):
            if self.body.startswith(opening) and self.body.endswith(closing):
                inner = self.body[len(opening) : -len(closing)]
                if brackets == "set" or len(top_level_parts(inner)) > 1:
                    return brackets  # type: ignore[return-value]
        return "single"


def read(answer: str, written: str = "") -> Quantity:
    """Take an answer apart; `written` is the whole answer where `answer` is only a part of it."""
    body, unit = split_unit(tidy(answer))
    if match := _BASE.fullmatch(body):
        return Quantity(match["digits"], unit, False, int(match["base"]))
    bare = PERCENT.sub("", body)
    if bare and bare != body and not _INNER_PERCENT.search(bare):
        return Quantity(tidy(bare), unit, True)
    body = _INNER_PERCENT.sub(r"\\frac{\1}{100}", body)
    return Quantity(body, unit, is_joined=bool(_JOINED.search(written or answer)))


def comparisons(gold: Quantity, answer: Quantity) -> list[tuple[str, str]] | str:
    """Pairs of bodies (gold, answer), any of which may agree; or the reason why none can."""
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return f"the unit is {answer.unit}, not {gold.unit}"
    if gold.base and answer.base and gold.base != answer.base:
        return f"the number base is {answer.base}, not {gold.base}"
    if not (gold.is_percent or answer.is_percent):
        ratios = compare_ratios(gold.body, answer.body)
        if ratios is not None:
            return ratios
    if not is_equation(gold) and not _gives_values(answer.body):
        return "an equation where a value is asked for"
    if gold.is_percent or answer.is_percent:
        return _percentages(gold, answer)
    return _lists(gold, answer)


def is_equation(quantity: Quantity) -> bool:
    """Whether it has an equals sign outside the bounds of a sum."""
    return "=" in _BOUNDS.sub("", quantity.body)


def _gives_values(body: str) -> bool:
    """Whether every left side is a name: `x`, `f(2)`, `AB`, not `2x - y`."""
    parts = top_level_parts(_BOUNDS.sub("", body))
    return all(is_name(part.partition("=")[0]) for part in parts if "=" in part)


def _percentages(gold: Quantity, answer: Quantity) -> list[tuple[str, str]]:
    as_written = gold.body, answer.body
    if gold.is_percent and answer.is_percent:
        return [as_written]
    if gold.is_percent:
        return [as_written, (_hundredth(gold.body), answer.body)]
    over_one = _NUMBER.fullmatch(gold.body) and abs(float(gold.body)) > 1
    return [as_written] if over_one else [(gold.body, _hundredth(answer.body))]


def _lists(gold: Quantity, answer: Quantity) -> list[tuple[str, str]] | str:
    kinds = gold.brackets, answer.brackets
    if kinds == ("set", "tuple"):
        return "an ordered tuple where a set is asked for"
    if kinds == ("tuple", "set"):
        return "a set where an ordered tuple is asked for"
    names_give_order = kinds == ("list", "list") and _is_named(gold) and not _is_named(answer)
    if kinds not in (("tuple", "list"), ("list", "tuple")) and not names_give_order:
        return [(gold.body, answer.body)]
    gold_tuple, answer_tuple = _in_order(gold), _in_order(answer)
    if gold_tuple is None or answer_tuple is None:
        return "values in no order against an ordered tuple"
    return [(gold_tuple, answer_tuple)]


def _is_named(quantity: Quantity) -> bool:
    """Whether every part of a list gives a value to a different name."""
    parts = top_level_parts(quantity.body)
    names = {part.partition("=")[0].strip() for part in parts}
    return len(names) == len(parts) and all(part.count("=") == 1 for part in parts)


def _in_order(quantity: Quantity) -> str | None:
    """A list as a tuple, sorted by its names where these are consecutive letters."""
    if quantity.brackets == "tuple":
        return quantity.body
    parts = top_level_parts(quantity.body)
    if _is_named(quantity):
        names = sorted(part[0] for part in parts)
        are_consecutive = all(ord(name) == ord(names[0]) + i for i, name in enumerate(names))
        return f"({','.join(sorted(parts) if are_consecutive else parts)})"
    is_unordered = "=" in quantity.body or quantity.is_joined or r"\infty" in quantity.body
    return None if is_unordered else f"({quantity.body})"


def _hundredth(body: str) -> str:
    return rf"\frac{{{body}}}{{100}}"
