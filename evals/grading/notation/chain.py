r"""Answers that say the same several times: `m + n = 100 + 13 = 113`, `\frac58 \approx 0.63`.

Pure functions of strings. A chain is right only where each of its values is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evals.grading.notation.latex import tidy, top_level_parts

__all__ = ["Link", "is_name", "links"]

_TOKEN = re.compile(
    r"\\[{}]|(?P<relation>=|\\(?:approx|equiv|simeq)(?![A-Za-z])(?!\s*$))|\\.|[()\[\]{}]"
)
# Whatever else orders or separates makes it no chain of equal values.
_OTHER = re.compile(r"[<>:]|\\(?:le|ge|leq|geq|lt|gt|ne|neq|in|to|implies|cases|text\s*\{\s*if)\b")
# What belongs to a name, besides its letters: subscripts, primes, what it is a function of.
_NAME_PARTS = re.compile(
    r"_\s*(?:\{[^{}]*\}|\w)|'|\^\s*\{?\\prime\}?|\\prime(?![A-Za-z])|\\text\s*\{[^{}]*\}"
)
_ARGUMENTS = re.compile(r"(?<![A-Za-z])(?P<of>[A-Za-z])\s*\((?P<arguments>[^()]*)\)")
_FUNCTIONS = "fghFGHPQT"
_OPERATION = re.compile(r"[-+*/^!]|\\(?:times|cdot|pm|div|frac|sqrt)(?![A-Za-z])")
_NAMES = re.compile(r"\(\s*[A-Za-z]+(?:\s*,\s*[A-Za-z]+)+\s*\)")
_DERIVATIVE = re.compile(r"\\[dt]?frac\s*\{d[A-Za-z]?\}\s*\{d[A-Za-z]\}")
_MARK = re.compile(
    r"\\(?:angle|triangle|overline|overrightarrow|vec|bar|hat|widehat|tilde|mathbb|mathcal|left|"
    r"right|[lr]?vert|ell|alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|lambda|"
    r"mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|"
    r"Omega|operatorname)(?![A-Za-z])"
)
_BARE = re.compile(r"[A-Za-z\s|{}\[\]]*")
_SUM = re.compile(r"\s*[A-Za-z]+(?:\s*[-+]\s*[A-Za-z]+)+\s*")


@dataclass(frozen=True)
class Link:
    """One value of a chain.

    Attributes:
        value: LaTeX.
        is_approximate: whether only about the value before it.
    """

    value: str
    is_approximate: bool = False


def links(answer: str) -> list[Link]:
    """The values of an answer, without the names that it gives them; one where it is no chain."""
    text = tidy(answer)
    if len(top_level_parts(text)) > 1 or _OTHER.search(text):
        return [Link(text)]
    found = _split(text)
    while len(found) > 1 and is_name(found[0].value):
        found = [Link(found[1].value), *found[2:]]
    return found if all(link.value for link in found) else [Link(text)]


def is_name(text: str) -> bool:
    r"""Whether it is a name or a sum of names: `x`, `m + n`, `f(2)`, `\angle ABC`, `|S|`."""
    core = _ARGUMENTS.sub(_without_arguments, _NAME_PARTS.sub("", text.strip()))
    if _SUM.fullmatch(core) or _NAMES.fullmatch(core) or _DERIVATIVE.fullmatch(core):
        return True
    return bool(text.strip()) and bool(_BARE.fullmatch(_MARK.sub("", core)))


def _without_arguments(match: re.Match[str]) -> str:
    """`f` for `f(x+1)`; a product, such as `x(x+1)`, as it is."""
    is_product = match["of"] in match["arguments"] or (
        match["of"] not in _FUNCTIONS and _OPERATION.search(match["arguments"])
    )
    return match[0] if is_product else match["of"]


def _split(text: str) -> list[Link]:
    """The text cut at the relations that no bracket encloses."""
    found, depth, start, is_approximate = list[Link](), 0, 0, False
    for token in _TOKEN.finditer(text):
        if token[0][-1] in "([{":
            depth += 1
        elif token[0][-1] in ")]}":
            depth -= 1
        elif token["relation"] and depth == 0:
            found.append(Link(text[start : token.start()].strip(), is_approximate))
            start, is_approximate = token.end(), token[0] not in ("=", r"\equiv")
    return [*found, Link(text[start:].strip(), is_approximate)]
