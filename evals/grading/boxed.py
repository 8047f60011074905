r"""The answer in the last complete `\boxed{…}` of a text, by brace matching."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evals.grading.notation.latex import top_level_parts

__all__ = ["EMPTY", "MISSING", "UNTERMINATED", "Boxed", "last_boxed"]

MISSING = "no \\boxed{} in the text"
EMPTY = "the last \\boxed{} is empty"
UNTERMINATED = "a \\boxed{ is never closed and none is complete"
MAX_GAP = 60  # characters between two boxes of one list

# In this order: a box, with or without its brace; an escaped character, such as \{; a brace.
_TOKEN = re.compile(
    r"(?P<box>\\{1,4}(?:boxed|fbox)(?![A-Za-z])\s*(?P<open>\{?))|\\.|[{}]", re.DOTALL
)
# TeX boxes only the next token; without braces people mean the next word.
_WORD = re.compile(r"[^\s${}\\]+")
# Spaces, and dots that only show where an answer goes.
_BLANK = re.compile(
    r"(?:\s|~|\\(?:[ ,;:!]|$)|\\(?:q?quad|[cl]?dots)(?![A-Za-z])|\\text\s*\{\s*\}|\.{3}|…|_{2,})*"
)
_MARKDOWN = re.compile(r"(\*{1,2}|`+|\${1,2}|__)\s*((?:(?!\1).)+?)\s*\1", re.DOTALL)
_NAME = r"(?<![\w\\+\-*/^)}])[A-Za-z](?:_\{?\w+\}?)?\s*="
_NAMED = re.compile(rf"({_NAME})\s*\$?\s*$")
# Text between the boxes of a list: no other word, no end of a sentence, no blank line.
_JOIN = re.compile(
    rf"(?!.*\n\s*\n)(?:[\s$,;&~]|\\[ ,;:!()\[\]]|\\q?quad(?![A-Za-z])|\b(?:and|or)\b"
    rf"|\\text\s*\{{\s*,?\s*(?:and|or)\s*\}}|{_NAME})*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Boxed:
    """The boxed answer: either `content` or `problem` is None.

    Attributes:
        content: the content of the last box that is not blank, stripped, without Markdown; never
            empty.
        problem: the reason without content: `MISSING`, `EMPTY` or `UNTERMINATED`.
        listed: the contents of the boxes up to this box that only commas, "and", "or" and names
            such as `x =` join, with names and commas; None for a single box.
    """

    content: str | None
    problem: str | None = None
    listed: str | None = None


@dataclass(frozen=True)
class _Box:
    """A complete box: indices of its command, of its content and of its end, and the content."""

    start: int
    inside: int
    end: int
    content: str


def last_boxed(text: str) -> Boxed:
    r"""The content of the last complete `\boxed{…}` (or `\fbox{…}`, or `\boxed 5`).

    Of nested boxes the inner box. A blank box counts only if all are blank, an unterminated box
    only if no box is complete. A single pass over the text, however many boxes it opens.
    """
    opened: list[tuple[int, int] | None] = []  # command and content; None for another brace
    boxes: list[_Box] = []
    for token in _TOKEN.finditer(text):
        if token["box"] and not token["open"]:
            if word := _WORD.match(text, token.end()):
                content = word[0].rstrip(".,;:")
                end = token.end() + len(content)
                boxes.append(_Box(token.start(), token.end(), end, content))
        elif token["box"]:
            opened.append((token.start(), token.end()))
        elif token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened and (box := opened.pop()) is not None:
            boxes.append(_Box(*box, token.end(), text[box[1] : token.start()].strip()))
    filled = sorted((box for box in boxes if not _BLANK.fullmatch(box.content)), key=_inside)
    if filled:
        return Boxed(_plain(filled[-1]), listed=_listed(text, filled))
    if boxes:
        return Boxed(None, EMPTY)
    return Boxed(None, MISSING if all(box is None for box in opened) else UNTERMINATED)


def _inside(box: _Box) -> int:
    return box.inside


def _plain(box: _Box) -> str:
    """The content without surrounding Markdown or dollar signs."""
    content = box.content
    while match := _MARKDOWN.fullmatch(content):
        content = match[2]
    return content


def _listed(text: str, boxes: list[_Box]) -> str | None:
    """The boxes of the last list, with their names; None for a single box."""
    row = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        gap = text[box.end : row[-1].start]
        if not 0 <= row[-1].start - box.end <= MAX_GAP or not _JOIN.fullmatch(gap):
            break
        row.append(box)
    row.reverse()
    contents = [_plain(box) for box in row]
    if len(row) == 1 or any(
        content.startswith(r"\{") or len(top_level_parts(content)) > 1 for content in contents
    ):
        return None
    return ", ".join(_name(text, box) + content for box, content in zip(row, contents, strict=True))


def _name(text: str, box: _Box) -> str:
    match = _NAMED.search(text[max(0, box.start - MAX_GAP) : box.start])
    return match[1] if match and "=" not in box.content else ""
