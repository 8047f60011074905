r"""Words around a value: the label of a choice, the range of a letter, names of sets.

Pure functions of tidied strings. A range is removed only if it lets a letter be any integer or any
real number; every other condition stays and makes the answer a different answer.
"""

from __future__ import annotations

import re

__all__ = ["restate", "split_range", "without_builder"]

MAX_CHARACTERS = 120  # of the range of a letter

_LABEL = re.compile(
    r"(?:\\text\s*\{\s*(?:\([A-J]\)|[A-J][.):])\s*\}|(?:\([A-J]\) |[A-J][.)] )(?=\s*[-+\d\\$]))"
    r"\s*(?=\S)"
)
_LABEL_IN_TEXT = re.compile(r"\\text\s*\{\s*\([A-J]\)\s*([^{}\s][^{}]*)\}")
_NUMBER = r"(?:\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})"
_TO = r"(?:\\text\s*\{\s*to\s*\}|(?<= )to(?= ))"
_RATIO = re.compile(rf"({_NUMBER})\s*{_TO}\s*({_NUMBER})(?:\s*{_TO}\s*({_NUMBER}))?")
_WORDS = re.compile(r"\\text\s*\{([^{}]*)\}|([A-Za-z][A-Za-z .'’]*)")
_PHRASES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?:the set of )?(?:all |any )?(?:the )?real(?:s| numbers?)", r"\\mathbb{R}"),
        (r"(?:the set of )?(?:all |any )(?:the )?integers?", r"\\mathbb{Z}"),
        (r"(?:the )?empty set", r"\\emptyset"),
        (r"(?:positive )?infinity", r"\\infty"),
        (r"negative infinity", r"-\\infty"),
        (
            r"(?:(?:the )?limit )?(?:does not exist|doesn['’]t exist|dne|d\.n\.e)",
            r"\\text{does not exist}",
        ),
        (
            r"(?:there (?:is|are|exists?) )?no ((?:such |real |integer )?(?:solution|root|value))s?"
            r"(?: exists?)?",
            r"\\text{no \1}",
        ),
    )
]

_BAR = r"(?::|\||\\(?:mid|vert|colon)(?![A-Za-z]))"
_SET = re.compile(
    rf"\\?\{{\s*([A-Za-z])\s*(\\in\s*\\mathbb\s*\{{?R\}}?)?\s*{_BAR}"
    r"((?:[^{}|:,\\]|\\[A-Za-z]+|\{[^{}]*\})*)\\?\}"
)
_FAMILY = re.compile(rf"\\\{{(.*?){_BAR}((?:[^{{}}|:]|\{{[^{{}}]*\}})*)\\\}}")
_ORDER = re.compile(r"[<>]|\\(?:le|ge|leq|geq|lt|gt|ne|neq)(?![A-Za-z])")
_WHOLE = "ijklmn"  # letters for integers, unless the answer gives another domain

_LETTER = r"(?:[a-z]|\\(?!in\b|ge\b|le\b)[a-z]+)(?:_\w+)?"
_LETTERS = rf"{_LETTER}(?:(?: and)? {_LETTER})*"
_ANY = r"(?:(?:all|any|every|each|some|an?|the|arbitrary|fixed|real|values? of) )*"
_NOUN = r"(?:constants?(?: of integration)?|numbers?|reals?)"
_INTEGERS = re.compile(
    rf"(?:for |where |with )?{_ANY}(?P<of>{_LETTER}) in z|for {_ANY}integers? (?P<named>{_LETTER})"
    rf"|(?:where |with |and )?(?P<being>{_LETTER}) (?:is |being )?{_ANY}integers?"
)
_REALS = re.compile(
    rf"(?:for |where |with )?{_ANY}{_LETTERS} in r"
    rf"|(?:for |where |with ){_ANY}{_NOUN}(?: {_LETTERS})?"
    rf"|for (?:all|any|every|each|some) (?:real )?{_LETTERS}"
    rf"|(?:where |with |and )?{_LETTERS} (?:is |are |being )?{_ANY}(?:{_NOUN}|arbitrary)"
)
_COUNTER = re.compile(r"\b[kmn]\b")  # a letter for a real number only within a function
_FUNCTION = re.compile(r"[A-Za-z]\([a-z]\)")
_START = re.compile(r"\\text(?![A-Za-z])|,|;|\(|\\forall(?![A-Za-z])|(?<= )(?:for|where|with)(?= )")


def restate(text: str) -> str:
    """A whole answer in its common form."""
    text = _LABEL_IN_TEXT.sub(_unlabelled, text) if _LABEL_IN_TEXT.fullmatch(text) else text
    if label := _LABEL.match(text):
        text = text[label.end() :]
    match = _WORDS.fullmatch(text)
    if ratio := _RATIO.fullmatch(match[1] if match and match[1] else text):
        return ":".join(part for part in ratio.groups() if part)
    if match:
        words = " ".join((match[1] or match[2]).lower().split()).rstrip(".")
        for pattern, replacement in _PHRASES:
            if phrase := pattern.fullmatch(words):
                return phrase.expand(replacement)
    return without_builder(text)


def split_range(body: str) -> tuple[str, str] | None:
    r"""The value and the range of a letter that follows it, as a unit; else None."""
    for start in _START.finditer(body, max(0, len(body) - MAX_CHARACTERS)):
        value, clause = body[: start.start()].strip(" ,;"), _flat(body[start.start() :])
        if not value or value.count("(") != value.count(")"):
            continue
        if match := _INTEGERS.fullmatch(clause):
            letter = match["of"] or match["named"] or match["being"]
            return (value, "any integer") if letter in value.lower() else None
        if _REALS.fullmatch(clause):
            counts = "constant" not in clause and _COUNTER.search(clause)
            return None if counts and not _FUNCTION.search(value) else (value, "any real number")
    return None


def _unlabelled(match: re.Match[str]) -> str:
    """The number, or the words, after a label within the same text."""
    value = match[1].strip()
    return value if re.fullmatch(r"[-+]?[\d./]+", value) else rf"\text{{{value}}}"


def without_builder(text: str) -> str:
    r"""`2<x<5` for `\{x \mid 2<x<5\}`; `2k, k \in \mathbb{Z}` for the set of these values."""
    if match := _SET.fullmatch(text):
        letter, domain, condition = match[1], match[2], match[3].strip()
        if _ORDER.search(condition) and letter in condition and (domain or letter not in _WHOLE):
            return condition
    match = _FAMILY.fullmatch(text)
    if match is None:
        return text
    value, clause = match[1].strip(), match[2].strip()
    if re.fullmatch(r"[A-Za-z]", value):  # {x | x = 2k, k in Z}
        family = clause if re.match(rf"{value}\s*=", clause) else ""
    else:
        family = f"{value}, {clause}"
    return family if family and split_range(family) else text


def _flat(clause: str) -> str:
    """A clause as bare words: `for some c in r`, `k in z`."""
    words = re.sub(r"\\text(?![A-Za-z])|[(){},;.$]", " ", clause.replace(r"\mathbb", ""))
    words = re.sub(r"\\forall(?![A-Za-z])", " for all ", words)
    return " ".join(re.sub(r"\\in(?![A-Za-z])", " in ", words).lower().split())
