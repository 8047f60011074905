r"""What stands around an answer's value: units, percent signs, a number base, brackets.

Pure functions of strings. The rules, each on the side of not accepting what is wrong:

- A unit that only one side names does not matter; two different units do.
- A percentage against a percentage is compared as written; a percentage gold answer also takes
  the bare number of percents, or the fraction. Against a bare gold answer a percentage is in
  percents where the gold answer is a number over 1, else a fraction.
- Brackets say what a list is: `(…)` is ordered, `\{…\}` is not. A bare list is what the other
  side is, but not ordered where a word joins it, `\pm` stands in it or a name repeats: `1 or 2`.
- Two different number bases are two different numbers.
- A modulus is a unit; `\bmod`, an operation, is one only behind what it leaves as it is.
- An equation is a value only if nothing but a name stands on its left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from evals.grading.notation import ratios
from evals.grading.notation.chain import is_name
from evals.grading.notation.latex import tidy, top_level_parts
from evals.grading.notation.phrases import split_range

__all__ = ["Quantity", "comparisons", "is_equation", "read"]

Brackets = Literal["single", "list", "tuple", "set"]

MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# After a number these say something about it that is no unit.
_QUALIFIER = re.compile(
    r"\b(?:or|and|not|more|less|least|most|than|over|under|about|approximately|approx|mod|if|when|"
    r"where|for|except|dozen|half|remainder|squared|cubed|times|plus|minus|factorial|point|to|"
    r"base|binary|octal|hexadecimal|halves|thirds|quarters|fifths|tenths|hundredths|thousandths|"
    r"hundred|thousand|million|billion|trillion|negative|percent|choose|divided|multiplied)\b",
    re.IGNORECASE,
)
SYNONYMS = {
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm", "meter": "m",
    "metre": "m", "kilometer": "km", "kilometre": "km", "inche": "in", "inch": "in", "feet": "ft",
    "foot": "ft", "mile": "mi", "kilogram": "kg", "gram": "g", "pound": "lb", "hour": "h",
    "hr": "h", "minute": "min", "second": "s", "sec": "s", "deg": "degree", "dollar": "$",
    "usd": "$", "liter": "l", "litre": "l", "mph": "mi/h", "kph": "km/h", "kmph": "km/h",
}  # fmt: skip
CURRENCIES = {
    r"\$": "$", "$": "$", r"\text{ euros}": "euro", r"\pounds": "lb sterling",
    r"\text{ pounds sterling}": "lb sterling",
}  # fmt: skip
_PLAIN_UNITS = (
    "degrees?|deg|dollars?|cents?|units?|cm|mm|km|kg|mph|kph|ft|lbs?|inch(?:es)?|feet|foot|miles?|"
    "meters?|metres?|centimeters?|kilometers?|grams?|kilograms?|pounds?|hours?|minutes?|seconds?|"
    "days?|weeks?|months?|years?|m/s|km/h|ways?"
)
# A word that is no product of variables: at least four letters, a vowel among them.
_WORD = r"(?:men|pens|cars|cats|dogs|egg|hens|cows|days?|(?=[a-z]*[aeiou])(?!abcd)[a-z]{4,})"
_SUPERSCRIPT = r"(?:\s*\^\s*\{?(?P<power>[23])\}?)?"
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?\s*(?:\\text\{\s*([CF])\s*\}|([CF]))?$|\\degree$")
_MODULUS = re.compile(
    r"\s*(?:\\pmod|\(\s*\\b?mod|\(\s*\\text\s*\{\s*mod\s*\}|\\text\s*\{\s*\(\s*mod)"
    r"(?P<of>\s*\{[^{}]*\}|[^(){}]*)\)?\s*\}?\s*\)?$"
)
_REMAINDER = re.compile(
    r"(?P<value>\d+)\s*(?:\\b?mod(?![A-Za-z])|\\text\s*\{\s*mod\s*\}|\bmod\b)\s*\{?(?P<of>\d+)\}?"
)
_WORD_UNIT = re.compile(
    rf"(?P<value>[-+]?\$?(?:\d[\d,]*(?:\.\d+)?|\d*\\frac\{{\d+\}}\{{\d+\}}))"
    rf"(?P<name>(?: (?:per|of|in|an?|the)\b)*(?: {_WORD}){{1,3}}(?: (?:total|left|old|each))?)"
)
_TEXT_UNIT = re.compile(rf"\\(?:text|operatorname)\s*\{{(?P<name>[^{{}}]*)\}}{_SUPERSCRIPT}$")
_PLAIN_UNIT = re.compile(
    rf"(?:(?<=[\d)}}])|(?<=\\pi))\s*(?P<name>(?:(?:square|cubic|sq)\s+)?(?:{_PLAIN_UNITS})){_SUPERSCRIPT}$"
)
_MULTIPLIER = re.compile(rf"^\s*({'|'.join(MULTIPLIERS)})s?\b", re.IGNORECASE)
_PERCENT = re.compile(
    r"\s*(?:\\?%|\\text\s*\{\s*(?:\\?%|per ?cent|percentage|pct)\s*\}|\bper ?cent\b)$", re.I
)
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
        unit: uniform name, None where none is given.
        is_percent: whether a percent sign stood behind the value.
        base: number base given as a subscript.
        is_joined: whether a word or a double sign says that its parts are in no order.
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
    """Take an answer apart; `written` is all of it, where `answer` is tidied or a part."""
    body, unit = _split_unit(tidy(answer))
    if match := _BASE.fullmatch(body):
        return Quantity(match["digits"], unit, False, int(match["base"]))
    bare = _PERCENT.sub("", body)
    if bare and bare != body and not _INNER_PERCENT.search(bare):
        return Quantity(tidy(bare), unit, True)
    body = _INNER_PERCENT.sub(r"\\frac{\1}{100}", body)
    return Quantity(body, unit, is_joined=bool(_JOINED.search(written or answer)))


def comparisons(gold: Quantity, answer: Quantity) -> list[tuple[str, str]] | str:
    """Pairs of bodies (gold, answer), one of which must agree; or why they cannot."""
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return f"the unit is {answer.unit}, not {gold.unit}"
    if gold.base and answer.base and gold.base != answer.base:
        return f"the number base is {answer.base}, not {gold.base}"
    if not (gold.is_percent or answer.is_percent):
        found = ratios.comparisons(gold.body, answer.body)
        if found is not None:
            return found
    if not is_equation(gold) and not _gives_values(answer.body):
        return "an equation where a value is asked for"
    if gold.is_percent or answer.is_percent:
        return _percentages(gold, answer)
    return _lists(gold, answer)


def is_equation(quantity: Quantity) -> bool:
    """Whether it has an equals sign, that of a sum's bounds aside."""
    return "=" in _BOUNDS.sub("", quantity.body)


def _gives_values(body: str) -> bool:
    """Whether all there is left of an equals sign is a name: `x`, `f(2)`, `AB`, not `2x - y`."""
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
    names_say_which = kinds == ("list", "list") and _is_named(gold) and not _is_named(answer)
    if kinds not in (("tuple", "list"), ("list", "tuple")) and not names_say_which:
        return [(gold.body, answer.body)]
    ours, theirs = _in_order(gold), _in_order(answer)
    if ours is None or theirs is None:
        return "values in no order against an ordered tuple"
    return [(ours, theirs)]


def _is_named(quantity: Quantity) -> bool:
    """Whether each part of a list gives another name its value."""
    parts = top_level_parts(quantity.body)
    names = {part.partition("=")[0].strip() for part in parts}
    return len(names) == len(parts) and all(part.count("=") == 1 for part in parts)


def _in_order(quantity: Quantity) -> str | None:
    """A list as a tuple, by the names in it where they follow each other in the alphabet."""
    if quantity.brackets == "tuple":
        return quantity.body
    parts = top_level_parts(quantity.body)
    if _is_named(quantity):
        names = sorted(part[0] for part in parts)
        is_a_row = all(ord(name) == ord(names[0]) + at for at, name in enumerate(names))
        return f"({','.join(sorted(parts) if is_a_row else parts)})"
    is_unordered = "=" in quantity.body or quantity.is_joined or r"\infty" in quantity.body
    return None if is_unordered else f"({quantity.body})"


def _hundredth(body: str) -> str:
    return rf"\frac{{{body}}}{{100}}"


def _split_unit(body: str) -> tuple[str, str | None]:
    if free := split_range(body):
        return free
    for sign, currency in CURRENCIES.items():
        if body.startswith(sign) and (after := body.removeprefix(sign).strip())[:1].isdigit():
            return tidy(_split_unit(after)[0]), currency
    if match := _MODULUS.search(body) or _REMAINDER.fullmatch(body):
        return _split_modulus(body, match)
    if match := _DEGREES.search(body):
        scale = match[1] or match[2]
        return body[: match.start()].strip(), f"degree {scale}" if scale else "degree"
    if match := _WORD_UNIT.fullmatch(body):
        return _named(match["value"], match["name"], None) or (body, None)
    match = _TEXT_UNIT.search(body) or _PLAIN_UNIT.search(body)
    if match is None or not (value := body[: match.start()].strip()):
        return body, None
    return _named(value, match["name"], match["power"]) or (body, None)


def _named(value: str, name: str, power: str | None) -> tuple[str, str | None] | None:
    """A value with the unit of that name; None where the name is none, or changes the value."""
    if multiplier := _MULTIPLIER.match(name):
        exponent = MULTIPLIERS[multiplier[1].lower()]
        value, name = rf"{value} \cdot 10^{{{exponent}}}", name[multiplier.end() :]
    if (
        re.search(r"[\d,;:=<>]", name)
        or _QUALIFIER.search(name)
        or _PERCENT.search(name)
        or not _is_value(value)
    ):
        return None
    return tidy(value), _uniform(name, power)


def _split_modulus(body: str, match: re.Match[str]) -> tuple[str, str | None]:
    """What is left of a modulus, unless the modulus would change it."""
    value, modulus = body[: match.start()].strip(), match["of"].strip(" {}")
    if "value" in match.re.groupindex:
        value = match["value"]
    is_reduced = not (value.isdigit() and modulus.isdigit()) or int(value) < int(modulus)
    return (value, f"mod {modulus}") if value and is_reduced else (body, None)


def _is_value(text: str) -> bool:
    r"""Whether a unit may follow: not after an operator or a relation, as in `5 + \text{a}`."""
    return text[-1].isalnum() or text[-1] in r")}]"


def _uniform(name: str, power: str | None) -> str | None:
    """A unit's name: lower case, singular, short, "square" as a power."""
    words = re.findall(r"[a-z$]+|/", name.lower().replace(".", "").replace(" per ", " / "))
    if power is None and words and words[0] in ("square", "sq", "cubic"):
        power, words = ("3" if words[0] == "cubic" else "2"), words[1:]
    singular = [word.removesuffix("s") if len(word) > 2 else word for word in words]
    short = [SYNONYMS.get(word, word) for word in singular]
    joined = re.sub(r" ?/ ?", "/", " ".join(short))
    joined = SYNONYMS.get(joined, joined)
    return (f"{joined}^{power}" if power else joined) or None
