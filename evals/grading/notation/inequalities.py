r"""Inequalities joined by "or", as sets: `(-\infty,-1) \cup (1,\infty)` for `x<-1 or x>1`.

Pure functions of strings.
"""

from __future__ import annotations

import re

__all__ = ["as_set"]

_OR = re.compile(r"\\text\s*\{\s*,?\s*or\s*\}|(?<=[\s\d})])or(?=[\s\\])|\\(?:vee|lor)(?![A-Za-z])")
_RELATION = re.compile(r"(<=|>=|[<>]|\\(?:leqslant|geqslant|leq?|geq?|lt|gt)(?![A-Za-z]))")


def as_set(text: str) -> str:
    """Inequalities in a single letter as a set; any other text unchanged."""
    parts = _OR.split(text)
    sets = [_interval(part.strip(" ,").rstrip(" .;:")) for part in parts]
    letters = {part[0] for part in sets if part is not None}
    if len(parts) == 1 or None in sets or len(letters) != 1 or not _RELATION.search(text):
        return text
    return r"\cup ".join(part[1] for part in sets if part is not None)


def _interval(text: str) -> tuple[str, str] | None:
    """The letter and the set of `x<1`, `1\\le x`, `0<x<1` or `x=1`; None for anything else."""
    if match := re.fullmatch(r"([A-Za-z])\s*=\s*([^=<>]+)", text):
        return match[1], rf"\{{{match[2].strip()}\}}"
    pieces = [piece.strip() for piece in _RELATION.split(text)]
    if all(">" in sign or r"\g" in sign for sign in pieces[1::2]):
        pieces.reverse()
    elif any(">" in sign or r"\g" in sign for sign in pieces[1::2]):
        return None
    values, strict = pieces[::2], [sign in ("<", ">", r"\lt", r"\gt") for sign in pieces[1::2]]
    if len(values) == 2 and all(re.fullmatch("[A-Za-z]", value) for value in values):
        return None  # either may be the unknown
    if len(values) == 2 and re.fullmatch("[A-Za-z]", values[0]):
        values, strict = [r"-\infty", *values], [True, *strict]
    elif len(values) == 2:
        values, strict = [*values, r"\infty"], [*strict, True]
    if len(values) != 3 or not re.fullmatch("[A-Za-z]", letter := values[1]):
        return None
    if not all((values[0], values[2])) or any(letter in values[index] for index in (0, 2)):
        return None
    opening, closing = "(["[not strict[0]], ")]"[not strict[1]]
    return letter, f"{opening}{values[0]},{values[2]}{closing}"
