r"""Chains of equal values in an answer: `m + n = 100 + 13 = 113`, `\frac58 \approx 0.63`.

Pure functions of strings. A chain is right only if all of its values are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evals.grading.notation.latex import tidy, top_level_parts

__all__ = ["Link", "is_name", "links"]

_TOKEN = re.compile(
    r"\\[{}]|(?P<relation>=|\\(?:approx|equiv|simeq)(?![A-Za-z])(?!\s*$))|\\.|[()\[\]{}]"
)
# Other relations and separators: with them it is not a chain of equal values.
_OTHER = re.compile(r"[<>:]|\\(?:le|ge|leq|geq|lt|gt|ne|neq|in|to|implies|cases|text\s*\{\s*if)\b")
# Parts of a name besides its letters: subscripts, primes, arguments.
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
    """A value of a chain.

    Attributes:
        value: LaTeX.
        is_approximate: whether it equals the value before it only approximately.
    """

    value: str
    is_approximate: bool = False


def links(answer: str) -> list[Link]:
    """The values of an answer without their names; a single value where it is not a chain."""
    text = tidy(answer)
    if len(top_level_parts(text)) > 1 or _OTHER.search(text):
        return [Link(text)]
    chain = _split(text)
    while len(chain) > 1 and is_name(chain[0].value):
        chain = [Link(chain[1].value), *chain[2:]]
    return chain if all(link.value for link in chain) else [Link(text)]


def is_name(text: str) -> bool:
    r"""Whether it is a name or a sum of names: `x`, `m + n`, `f(2)`, `\angle ABC`, `|S|`."""
    core = _ARGUMENTS.sub(_without_arguments, _NAME_PARTS.sub("", text.strip()))
    if _SUM.fullmatch(core) or _NAMES.fullmatch(core) or _DERIVATIVE.fullmatch(core):
        return True
    return bool(text.strip()) and bool(_BARE.fullmatch(_MARK.sub("", core)))


def _without_arguments(match: re.Match[str]) -> str:
    """`f` for `f(x+1)`; a product, such as `x(x+1)`, unchanged."""
    is_product = match["of"] in match["arguments"] or (
        match["of"] not in _FUNCTIONS and _OPERATION.search(match["arguments"])
    )
    return match[0] if is_product else match["of"]


def _split(text: str) -> list[Link]:
    """The text, split at the relations outside brackets."""
    chain, depth, start, is_approximate = list[Link](), 0, 0, False
    for token in _TOKEN.finditer(text):
        if token[0][-1] in "([{":
            depth += 1
        elif token[0][-1] in ")]}":
            depth -= 1
        elif token["relation"] and depth == 0:
            chain.append(Link(text[start : token.start()].strip(), is_approximate))
            start, is_approximate = token.end(), token[0] not in ("=", r"\equiv")
    return [*chain, Link(text[start:].strip(), is_approximate)]
