r"""The unit of an answer: currencies, degrees, moduli, words, in a uniform name.

Pure functions of strings.
"""

from __future__ import annotations

import re

from evals.grading.notation.latex import tidy
from evals.grading.notation.phrases import split_range

__all__ = ["PERCENT", "split_unit"]

MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# Words after a number that qualify it and are not a unit.
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
# A word, not a product of variables: at least four letters, with a vowel.
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
PERCENT = re.compile(
    r"\s*(?:\\?%|\\text\s*\{\s*(?:\\?%|per ?cent|percentage|pct)\s*\}|\bper ?cent\b)$", re.I
)


def split_unit(body: str) -> tuple[str, str | None]:
    """The value and the uniform name of its unit; None without a unit."""
    if value_and_range := split_range(body):
        return value_and_range
    for sign, currency in CURRENCIES.items():
        if body.startswith(sign) and (after := body.removeprefix(sign).strip())[:1].isdigit():
            return tidy(split_unit(after)[0]), currency
    if match := _MODULUS.search(body) or _REMAINDER.fullmatch(body):
        return _split_modulus(body, match)
    if match := _DEGREES.search(body):
        scale = match[1] or match[2]
        return body[: match.start()].strip(), f"degree {scale}" if scale else "degree"
    if match := _WORD_UNIT.fullmatch(body):
        return _with_unit(match["value"], match["name"], None) or (body, None)
    match = _TEXT_UNIT.search(body) or _PLAIN_UNIT.search(body)
    if match is None or not (value := body[: match.start()].strip()):
        return body, None
    return _with_unit(value, match["name"], match["power"]) or (body, None)


def _with_unit(value: str, name: str, power: str | None) -> tuple[str, str | None] | None:
    """A value and its unit; None where the name is not a unit, or changes the value."""
    if multiplier := _MULTIPLIER.match(name):
        exponent = MULTIPLIERS[multiplier[1].lower()]
        value, name = rf"{value} \cdot 10^{{{exponent}}}", name[multiplier.end() :]
    if (
        re.search(r"[\d,;:=<>]", name)
        or _QUALIFIER.search(name)
        or PERCENT.search(name)
        or not _is_value(value)
    ):
        return None
    return tidy(value), _uniform_name(name, power)


def _split_modulus(body: str, match: re.Match[str]) -> tuple[str, str | None]:
    """The value before a modulus, unless the modulus would change it."""
    value, modulus = body[: match.start()].strip(), match["of"].strip(" {}")
    if "value" in match.re.groupindex:
        value = match["value"]
    is_reduced = not (value.isdigit() and modulus.isdigit()) or int(value) < int(modulus)
    return (value, f"mod {modulus}") if value and is_reduced else (body, None)


def _is_value(text: str) -> bool:
    r"""Whether a unit may follow: not after an operator or a relation, as in `5 + \text{a}`."""
    return text[-1].isalnum() or text[-1] in r")}]"


def _uniform_name(name: str, power: str | None) -> str | None:
    """The uniform name of a unit: lower case, singular, short, "square" as a power."""
    words = re.findall(r"[a-z$]+|/", name.lower().replace(".", "").replace(" per ", " / "))
    if power is None and words and words[0] in ("square", "sq", "cubic"):
        power, words = ("3" if words[0] == "cubic" else "2"), words[1:]
    singular = [word.removesuffix("s") if len(word) > 2 else word for word in words]
    short = [SYNONYMS.get(word, word) for word in singular]
    joined = re.sub(r" ?/ ?", "/", " ".join(short))
    joined = SYNONYMS.get(joined, joined)
    return (f"{joined}^{power}" if power else joined) or None
