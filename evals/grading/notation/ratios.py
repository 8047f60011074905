r"""Ratios and times of day: `3:4:5`, `2 to 1`, `x:y = 3:4`, `12:30`.

Pure functions of strings. Two ratios are equal in proportion, and one of two parts is the quotient
of them. Two numbers that could be a time of day on both sides are one, and equal digit by digit;
what has a leading zero behind a colon is nothing else.
"""

from __future__ import annotations

import re

__all__ = ["comparisons", "is_time"]

_COLON = re.compile(r"\s*(?:\\text\s*\{\s*(?:to|:)\s*\}|\\colon(?![A-Za-z])|\bto\b|:)\s*")
_ALL_TEXT = re.compile(r"\\text\s*\{\s*(\d+(?:\s*(?:to|:)\s*\d+)+)\s*\}")
_NAMES = re.compile(r"\s*[A-Za-z]+(?:\s*:\s*[A-Za-z]+)+\s*=(?P<ratio>[^=]*)")
# What orders, maps or separates is no part of a ratio.
_NO_PART = re.compile(r"[<>=,]|\\(?:to|in|mid|le|ge|leq|geq|ne|neq|mapsto|rightarrow)(?![A-Za-z])")


def comparisons(gold: str, answer: str) -> list[tuple[str, str]] | str | None:
    """As those of `quantity`; None where neither is a ratio or a time."""
    ours, theirs = _parts(gold), _parts(answer)
    if ours is None and theirs is None:
        return None
    if is_time(gold) or is_time(answer) or (_may_be_time(ours) and _may_be_time(theirs)):
        is_same = _may_be_time(ours) and _may_be_time(theirs) and _digits(ours) == _digits(theirs)
        return [(gold, gold)] if is_same else "another time, or no time of day"
    if ours is None or theirs is None:
        return _quotients(gold, answer, ours or theirs or [])
    if len(ours) != len(theirs):
        return f"a ratio of {len(theirs)} parts, not {len(ours)}"
    return [(_in_proportion(ours), _in_proportion(theirs))]


def is_time(body: str) -> bool:
    """Whether it can be nothing else: `12:00`, `9:05`."""
    parts = _parts(body)
    return _may_be_time(parts) and any(part.startswith("0") for part in (parts or [])[1:])


def _parts(body: str) -> list[str] | None:
    """The parts between the colons that no bracket encloses; None for what is no ratio."""
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
    is_ratio = len(parts) > 1 and all(part and not _NO_PART.search(part) for part in parts)
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
        return f"a ratio of {len(parts)} parts against what is none"
    ours, theirs = (_quotient(*(_parts(side) or [side, "1"])) for side in (gold, answer))
    return [(ours, theirs)]


def _in_proportion(parts: list[str]) -> str:
    """Every part in units of the last, as a tuple; of two parts the quotient."""
    *others, last = (_quotient(part, parts[-1]) for part in parts)
    return f"({','.join([*others, last])})" if len(others) > 1 else others[0]


def _quotient(over: str, under: str) -> str:
    return over if under == "1" else rf"\frac{{{over}}}{{{under}}}"
