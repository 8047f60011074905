r"""Ratios and times of day: `3:4:5`, `2 to 1`, `x:y = 3:4`, `12:30`.

Pure functions of strings. Two ratios are equal in proportion, and a ratio of two parts equals their
quotient. If both sides could be a time of day they are, and are compared digit by digit; a leading
zero after a colon always means a time of day.
"""

from __future__ import annotations

import re

__all__ = ["compare_ratios", "is_time"]

_COLON = re.compile(r"\s*(?:\\text\s*\{\s*(?:to|:)\s*\}|\\colon(?![A-Za-z])|\bto\b|:)\s*")
_ALL_TEXT = re.compile(r"\\text\s*\{\s*(\d+(?:\s*(?:to|:)\s*\d+)+)\s*\}")
_NAMES = re.compile(r"\s*[A-Za-z]+(?:\s*:\s*[A-Za-z]+)+\s*=(?P<ratio>[^=]*)")
# Signs of order, maps and separators, which no part of a ratio contains.
_NOT_IN_PART = re.compile(
    r"[<>=,]|\\(?:to|in|mid|le|ge|leq|geq|ne|neq|mapsto|rightarrow)(?![A-Za-z])"
)


def compare_ratios(gold: str, answer: str) -> list[tuple[str, str]] | str | None:
    """As `quantity.comparisons`; None where neither side is a ratio or a time."""
    left, right = _parts(gold), _parts(answer)
    if left is None and right is None:
        return None
    are_times = _may_be_time(left) and _may_be_time(right)
    if is_time(gold) or is_time(answer) or are_times:
        is_same = are_times and _digits(left) == _digits(right)
        return [(gold, gold)] if is_same else "another time, or no time of day"
    if left is None or right is None:
        return _quotients(gold, answer, left or right or [])
    if len(left) != len(right):
        return f"a ratio of {len(right)} parts, not {len(left)}"
    return [(_in_proportion(left), _in_proportion(right))]


def is_time(body: str) -> bool:
    """Whether it is a time of day and cannot be a ratio: `12:00`, `9:05`."""
    parts = _parts(body)
    return _may_be_time(parts) and any(part.startswith("0") for part in (parts or [])[1:])


def _parts(body: str) -> list[str] | None:
    """The parts between the colons outside brackets; None for other text."""
    if match := _ALL_TEXT.fullmatch(body) or _NAMES.fullmatch(body):
        body = match[1].strip()
    depth, start, parts = 0, 0, list[str]()
    for token in re.finditer(rf"{_COLON.pattern}|\\?[()\[\]{{}}]", body):
        if token[0][-1] in "([{":
            depth += 1
        elif token[0][-1] in ")]}" and not _COLON.fullmatch(token[0]):
            depth -= 1
        elif depth == 0:
            parts.append(body[start : token.start()])
            start = token.end()
    parts.append(body[start:])
    is_ratio = len(parts) > 1 and all(part and not _NOT_IN_PART.search(part) for part in parts)
    return parts if is_ratio else None


def _may_be_time(parts: list[str] | None) -> bool:
    if parts is None or not all(re.fullmatch(r"\d{1,2}", part) for part in parts):
        return False
    has_zero = any(part.startswith("0") for part in parts[1:])
    is_clock = all(len(part) == 2 and int(part) < 60 for part in parts[1:])
    return int(parts[0]) <= 24 and is_clock and (len(parts) == 2 or has_zero)


def _digits(parts: list[str] | None) -> list[int]:
    return [int(part) for part in parts or []]


def _quotients(gold: str, answer: str, parts: list[str]) -> list[tuple[str, str]] | str:
    """A ratio against a number."""
    if len(parts) > 2:
        return f"a ratio of {len(parts)} parts against a value that is not a ratio"
    left, right = (_quotient(*(_parts(side) or [side, "1"])) for side in (gold, answer))
    return [(left, right)]


def _in_proportion(parts: list[str]) -> str:
    """The parts over the last part, as a tuple; for two parts their quotient."""
    *others, last = (_quotient(part, parts[-1]) for part in parts)
    return f"({','.join([*others, last])})" if len(others) > 1 else others[0]


def _quotient(over: str, under: str) -> str:
    return over if under == "1" else rf"\frac{{{over}}}{{{under}}}"
