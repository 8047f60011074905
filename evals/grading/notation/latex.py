r"""A uniform form for the LaTeX of an answer, before any other module reads it.

Only rewriting that cannot change the meaning: Unicode to LaTeX, spacing, sizes of brackets, grouped
digits, repeating decimals. Units and percent signs are the business of `quantity`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from evals.grading.notation.inequalities import as_set
from evals.grading.notation.phrases import restate, without_builder
from evals.grading.notation.plain_text import spell

__all__ = ["tidy", "top_level_parts"]

_SYMBOLS = {
    **dict.fromkeys("−–—‐‑﹣－", "-"),
    **dict.fromkeys("\u00a0\u2009\u202f\u2007\u2002\u2003\u200a", r"\,"),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
    **dict(zip("０１２３４５６７８９", "0123456789", strict=True)),
    **dict(zip("（），．：＝＋", "(),.:=+", strict=True)),
    "×": r"\times ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "÷": r"\div ",
    "π": r"\pi ",
    "∞": r"\infty ",
    "°": r"^\circ ",
    "±": r"\pm ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    **{double: rf"\mathbb{{{letter}}}" for double, letter in zip("ℝℤℕℚℂ", "RZNQC", strict=True)},
    "α": r"\alpha ",
    "β": r"\beta ",
    "θ": r"\theta ",
    "λ": r"\lambda ",
    "φ": r"\phi ",
    "ω": r"\omega ",
    "√": " sqrt",
    "∛": " cbrt",
    "⇒": r"\Rightarrow ",
    "→": r"\to ",
    "≡": r"\equiv ",
    "∙": r"\cdot ",
    "∗": "*",
    "∣": r"\mid ",
    "％": r"\%",
    "€": r"\text{ euros}",
    "£": r"\text{ pounds sterling}",
    "¢": r"\text{ cents}",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    **{sign: rf"\frac{{{above}}}{{8}}" for sign, above in zip("⅛⅜⅝⅞", "1357", strict=True)},
    **{sign: rf"\frac{{{above}}}{{5}}" for sign, above in zip("⅕⅖⅗⅘", "1234", strict=True)},
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_STYLES = (
    "mathbf|boldsymbol|bm|pmb|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathit|mathsf|"
    "mathtt|mathnormal|emph|mbox"
)

# In this order: patterns and their replacements.
_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    ("[" + "".join(_SYMBOLS) + "]", lambda match: _SYMBOLS[match[0]]),
    (r"…|\.\.\.|\\[cl]dots(?![A-Za-z])", r"\\dots "),
    ("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}"),
    ("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}"),
    (r"\\\\\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|in|mu)\s*\]", r"\\\\ "),
    ("(?:\\d\u0305)+", lambda match: rf"\overline{{{match[0][::2]}}}"),
    (r"\\(?:left|middle|right)(?![A-Za-z])\.?|\\[bB]igg?[lrm]?(?![A-Za-z])", ""),
    (r"\\displaystyle|\\[()\[\]]|(?<!\\)\$|\\limits(?![A-Za-z])", ""),
    (r"\\lbrace(?![A-Za-z])", r"\\{"),
    (r"\\rbrace(?![A-Za-z])", r"\\}"),
    (r"\\(?:langle|lparen)(?![A-Za-z])", "("),
    (r"\\(?:rangle|rparen)(?![A-Za-z])", ")"),
    (r"\\mathbb\s*([A-Z])(?![A-Za-z])", r"\\mathbb{\1}"),
    (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
    *[(r"\\(?:mathbf|boldsymbol|bm|hat|vec)\s*\{\s*\\?([ijk])(?:math)?\s*\}", r"\1")] * 2,
    (rf"\\(?:{_STYLES})(?=\s*\{{)", r"\\text"),
    (r"\{\\(?:bf|rm|it)\s+([^{}]*)\}", r"\\text{\1}"),
    (r"\\(?:bf|rm|it|sf|tt|bfseries|itshape|boldmath)(?![A-Za-z])\s*", ""),
    (r"\\(?:textcolor|color)\s*\{[^{}]*\}|\\(?:underline|uline)(?=\s*\{)", ""),
    (r"\\text\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}", r"\\text{\1}"),
    (r"\\text\s*\{\s*([-+]?[\d.,]*\d|[ie])\s*\}", r"\1"),
    # Parts of a text that are mathematics: a number before words, a power, a degree sign.
    (r"^\s*\\text\s*\{\s*(\d[\d,]*(?:\.\d+)?)((?:\s+[A-Za-z]+)+\s*)\}\s*$", r"\1\\text{\2}"),
    (r"\\text\s*\{([^{}^]*[A-Za-z])\s*\^\s*\{?([23])\}?\s*\}", r"\\text{\1}^{\2}"),
    (r"\\text\s*\{\s*\^\s*\\circ\s*([CF]?)\s*\}", r"^\\circ\\text{\1}"),
    # Digits in groups of three, with a thin space or a comma that cannot separate a list.
    (r"(?<=\d)\{,\}\s*(?=\d{3}(?!\d))|(?<=\d),?\\!\s*(?=\d)|(?<=\d),\\!\s*(?=\d)", ""),
    (
        r"(?<![\d.^_])[1-9]\d{0,2}(?:(?:\\[,;:> ]|~| )\d{3})+(?!\d)",
        lambda match: re.sub(r"\D", "", match[0]),
    ),
    (r"(?<!\\)\\[,;:!> ]|(?<!\\)\\$|~|\\q?quad(?![A-Za-z])|\s+", " "),
    (r"^.*(?:[<>]|\\[lg][et]).*$", lambda match: as_set(without_builder(match[0].strip()))),
    (r"(?:,\s*)?\\text\s*\{\s*(?:,|,?\s*(?:and|or))\s*\}", ","),
    (r"(?<![A-Za-z_^])\{\s*([:=])\s*\}", r"\1"),
    (
        r"(?:(?<=[\d)}!])|(?<=\\pi)|(?<![A-Za-z\\][a-z])(?<=[a-z])) ?,? (?:and|or) "
        r"(?=[-+\\\d(.{]|[A-Za-z]\w* *=)",
        ",",
    ),
    # A mixed number in plain text; other digits separated by spaces are a list.
    (r"(?<![\d.}])(\d+) +(\d+) ?/ ?(\d+)(?![\d.])", r"\1\\frac{\2}{\3}"),
    (
        r"(?:\\[A-Za-z]+|[_^]) *\d+ +(?=\d)|(?<=\d)(?P<gap> +)(?=\d)",
        lambda match: "," if match["gap"] else match[0],
    ),
]
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?(?!\d)")
_LINE_BREAK = re.compile(r"\\\\(?![A-Za-z])")
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_EXPONENT = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d+)")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])|(?<![A-Za-z])cis(?![A-Za-z])")
_ANGLE = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_RELATION = re.compile(r"^(?:=|\\(?:approx|equiv)(?![A-Za-z]))\s*")
_BOTH_SIGNS = re.compile(r"\\pm(?![A-Za-z])\s*")
_INTRODUCTION = re.compile(
    r"^\\text\s*\{(?![^{}]*\b(?:not|least|most|than|about)\b)[^{}]*(?:[:=]|\b(?:is|are))\s*\}\s*"
)


def tidy(text: str) -> str:
    r"""`text` with uniform characters, spacing, brackets, digit groups and repeating decimals."""
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    text = _REPEATING.sub(_as_fraction, spell(text))
    if "matrix" not in text and "array" not in text and "cases" not in text:
        text = _LINE_BREAK.sub(",", text)
    text = _INTRODUCTION.sub("", text.strip())
    text = _RELATION.sub("", text.strip().rstrip(".,;: "))
    if _FUNCTION.search(text):
        text = _ANGLE.sub(r"{\\frac{\1 \\pi}{180}}", text)
    text = restate(text)
    if match := _EXPONENT.fullmatch(text):
        text = rf"{match[1]} \cdot 10^{{{match[2]}}}"
    return text.replace(",", "") if _GROUPED.fullmatch(text) else _both_signs(text)


def top_level_parts(text: str) -> list[str]:
    """`text`, split at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for token in re.finditer(r"\\[{}]|\\.|[()\[\]{},]", text):
        mark = token[0][-1] if token[0] in (r"\{", r"\}") else token[0]
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        elif mark == "," and depth == 0:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    return [*parts, text[start:].strip()]


def _both_signs(text: str) -> str:
    r"""Writes the parts of a list with a single `\pm` twice, with + and -; not within brackets."""
    parts: list[str] = []
    for part in top_level_parts(text):
        num_signs = len(_BOTH_SIGNS.findall(part))
        if num_signs == 1 and r"\mp" not in part and not part.startswith(("(", r"\{")):
            parts += [_BOTH_SIGNS.sub(sign, part) for sign in "+-"]
        else:
            parts.append(part)
    return ",".join(parts) if _BOTH_SIGNS.search(text) else text


def _as_fraction(match: re.Match[str]) -> str:
    r"""`0.1\overline{6}` is 15/90: all digits minus the digits that do not repeat, over 90."""
    whole, fixed, cycle = match.groups()
    numerator = int(whole + fixed + cycle) - int((whole + fixed) or "0")
    return rf"\frac{{{numerator}}}{{{'9' * len(cycle)}{'0' * len(fixed)}}}"
