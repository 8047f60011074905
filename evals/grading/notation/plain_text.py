r"""Plain text and layout, rewritten as the LaTeX that is parsed.

`2*sin(pi*x/5)`, `log_2(8)`, `2**(1/4)`, `sqrt(2+sqrt(3))`, `0.\dot{3}`, `\tbinom52`, `aligned`.
Pure functions of strings. Letters are a name only outside words, and prose is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["spell"]

_FUNCTIONS = (
    "arcsinh|arccosh|arctanh|arcsin|arccos|arctan|arccot|arcsec|arccsc|asinh|acosh|atanh|asin|"
    "acos|atan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp"
)
_LETTERS = "alpha|beta|gamma|delta|epsilon|theta|kappa|lambda|sigma|omega|phi|rho|tau|pi"
_INFINITY = "oo|inf|infinity"
_SPELLINGS = {
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **dict.fromkeys(_INFINITY.split("|"), "infty"),
    "lcm": "operatorname{lcm}",
}
# In this order: a function in a command for text; other such commands, which stay; a logarithm
# with its base; plain names, functions only before an argument (`5 sec` and `tan` are not calls).
_NAME = re.compile(
    rf"\\(?:text|operatorname)\s*\{{\s*(?P<styled>{_FUNCTIONS}|pi)\s*\}}"
    r"|\\(?:text|operatorname|begin|end)\s*\{[^{}]*\}"
    r"|(?<![A-Za-z\\])(?:log(?P<base>(?:2|10)(?=\s*\()|_\d+)"
    rf"|(?P<called>{_FUNCTIONS}|gcd|lcm|max|min)(?=\s*[(^_])"
    r"|(?P<applied>arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|ln|log)"
    r"(?=\s*[\d\\{|]|\s+[A-Za-z]|x(?![A-Za-z]))"
    rf"|(?P<letter>{_LETTERS}|{_INFINITY})(?![A-Za-z]))"
)
_PROSE = re.compile(r"[A-Za-z][A-Za-z .,:;!?'’-]*")
_OTHER_WORD = re.compile(
    rf"(?<![A-Za-z])(?!(?:{_FUNCTIONS}|{_LETTERS}|{_INFINITY})x?(?![A-Za-z]))[A-Za-z]{{2,}}"
)

# Calls that open with a round bracket, whose closing bracket is replaced too.
_CALLS = [
    (re.compile(opening), before, after)
    for opening, before, after in (
        (r"(?:\\|(?<![A-Za-z\\]))sqrt\s*(\[[^\[\]]*\])?\s*\(", r"\\sqrt\1{", "}"),
        (r"(?<![A-Za-z\\])cbrt\s*\(", r"\\sqrt[3]{", "}"),
        (r"(?<![A-Za-z\\])abs\s*\(", "|", "|"),
        (r"(?<![A-Za-z\\])floor\s*\(", r"\\lfloor ", r"\rfloor "),
        (r"(?<![A-Za-z\\])ceil\s*\(", r"\\lceil ", r"\rceil "),
        (r"\^\s*\(", "^{", "}"),
    )
]

_Replacement = str | Callable[[re.Match[str]], str]
_RULES: list[tuple[str, _Replacement]] = [
    (r"(?<=[\w)}\]])\s*\*\*\s*(\d+(?:\.\d+)?)", r"^{\1}"),
    (r"(?<=[\w)}\]])\s*\*\*\s*(?=[-+\w(\\{])", "^"),
    (r"\^\s*([-+]\s*(?:\d+(?:\.\d+)?(?![\d.])|[A-Za-z]))", r"^{\1}"),
    (r"(?<![A-Za-z\\])sqrt\s*(\d+|[A-Za-z](?![A-Za-z]))", r"\\sqrt{\1}"),
    (r"(?<![A-Za-z\\])cbrt\s*(\d+|[A-Za-z](?![A-Za-z]))", r"\\sqrt[3]{\1}"),
    (r"(?<![A-Za-z\\])sqrt(?=\s*[{\\])", r"\\sqrt"),
    (r"<=|\\leqslant(?![A-Za-z])", r"\\le "),
    (r">=|\\geqslant(?![A-Za-z])", r"\\ge "),
    (r"\+\s*/\s*-", r"\\pm "),
    (r"\\imath(?![A-Za-z])", "i"),
    (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
    (r"\\log\s*_\s*(?:e(?![A-Za-z])|\{\s*e\s*\})", r"\\ln "),
    (r"\\[dt]?binom(?:\s*(\d)|\s+([A-Za-z]))\s*(?=[\dA-Za-z{])", r"\\binom{\1\2}"),
    (r"\\[dt]?binom(?![A-Za-z])\s*(\{[^{}]*\})\s*([\dA-Za-z])", r"\\binom\1{\2}"),
    (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
    (r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}", r"{\\binom{\1}{\2}}"),
    (r"(?:\{\s*\})?_\s*\{?(\d+)\}?\s*C\s*_\s*\{?(\d+)\}?", r"\\binom{\1}{\2}"),
    (r"(,[^()\[\],]*[)\]])\s*(?:U|union)\s*(?=[(\[])", r"\1\\cup "),
    # Dots over the first and the last repeating digit, or over all of them.
    (
        r"(\.\d*)((?:\\dot\s*(?:\{\d+\}|\d)\d*)*\\dot\s*(?:\{\d+\}|\d))(?!\d)",
        lambda match: rf"{match[1]}\overline{{{re.sub('[^0-9]', '', match[2])}}}",
    ),
    (r"(?<![\d.])(\d+\.)\((\d+)\)(?!\s*[\d(\\^!])", r"\1\\overline{\2}"),
    (
        r"[(\[]\s*\\begin\{array\}\s*(?:\{[^{}]*\})?(.*?)\\end\{array\}\s*[)\]]",
        r"\\begin{pmatrix}\1\\end{pmatrix}",
    ),
    (r"\\(begin|end)\{(?:small|psmall|bsmall)matrix\}", r"\\\1{pmatrix}"),
]
# In plain text without a command: `sqrt(3)/2 i` does not divide by `2 i`.
_QUOTIENT = re.compile(r"(?<=/)\s*\d+(?= (?:[A-Za-z](?![A-Za-z])|pi\b|sqrt\b))")
_LINES = re.compile(
    r"\\begin\{(aligned|align|alignat|gathered|split|eqnarray)(\*?)\}(?:\{\d+\})?(.*?)\\end\{\1\2\}"
)
_SYSTEM = re.compile(
    r"(?:\\\{\s*\\begin\{array\}\s*\{[^{}]*\}([^{}]*?)\\end\{array\}(?!\s*\\\})"
    r"|\\begin\{cases\}([^{}]*?)\\end\{cases\})"
)


def spell(text: str) -> str:
    """`text` with plain names, calls, operators and layouts as LaTeX."""
    if "\\" not in text:
        text = _QUOTIENT.sub(r"\g<0>*", text)
    if not _PROSE.fullmatch(text) or not _OTHER_WORD.search(text):
        text = _NAME.sub(_named, text)
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    for opening, before, after in _CALLS:
        text = _call(text, opening, before, after)
    text = _LINES.sub(lambda match: _listed(match[3].replace("&", " ")), text)
    return re.sub(" {2,}", " ", _SYSTEM.sub(_system, text))


def _named(match: re.Match[str]) -> str:
    if match["base"]:
        return rf"\log_{{{match['base'].removeprefix('_')}}}"
    name = match["styled"] or match["called"] or match["applied"] or match["letter"]
    return rf"\{_SPELLINGS.get(name, name)} " if name else match[0]


def _call(text: str, opening: re.Pattern[str], before: str, after: str) -> str:
    """Every call with its brackets replaced; a call that is never closed stays."""
    start = 0
    while match := opening.search(text, start):
        end = _closing(text, match.end())
        start = match.end()
        if end is not None:
            head = text[: match.start()] + match.expand(before).replace("None", "")
            text, start = head + text[match.end() : end] + after + text[end + 1 :], len(head)
    return text


def _closing(text: str, start: int) -> int | None:
    """Index of the bracket that closes the one before `start`."""
    depth = 1
    for bracket in re.compile(r"[()]").finditer(text, start):
        depth += 1 if bracket[0] == "(" else -1
        if depth == 0:
            return bracket.start()
    return None


def _listed(lines: str) -> str:
    """Lines as a list; a line that begins with a relation continues the line before."""
    lines = re.sub(r"\\\\\s*(?==|\\(?:approx|equiv|le|ge)(?![A-Za-z]))", " ", lines.strip())
    return re.sub(r"[\s,;]*\\\\\s*", ", ", lines.removesuffix(r"\\"))


def _system(match: re.Match[str]) -> str:
    """A system of equations as a list; other cases stay."""
    lines = (match[1] or match[2] or "").strip().removesuffix(r"\\")
    lines = re.sub(r"&\s*(?==)|(?<==)\s*&", "", lines)
    is_system = "&" not in lines and all("=" in line for line in lines.split(r"\\"))
    return _listed(lines) if is_system else match[0]
