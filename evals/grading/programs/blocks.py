"""Fenced blocks of code in a model's answer, and markers around code. Executes nothing."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["FILE", "Block", "blocks", "parsed", "unescaped", "unmarked", "until_end"]

FILE = "<answer>"
# Parsing the model's code warns of odd escapes in its string literals.
warnings.filterwarnings("ignore", module=re.escape(FILE))

# After prose only a language may follow the fence; on a separate line anything but a backtick.
FENCE = re.compile(
    r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)(?P<more>[^`]*)$"
)
QUOTED = re.compile(r"[ \t]*>[ \t]?")
PYTHON = {"python", "python3", "py", "py3"}
MAX_TRIES, MAX_LINES = 20, 500

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
INDENTED = re.compile(r"^ *\u00a0[ \u00a0]*", re.MULTILINE)
END = re.compile(
    r"<[|｜](?:im_end|end|eot|eos|return)[\w▁]*[|｜]>|</s>|<eos>|<pad>|<end_of_turn>"
    r"|^\[DONE\][ \t]*$",
    re.MULTILINE,
)
BRACKETS = re.compile(r"^\[/?[A-Z]{3,}\][ \t]*$", re.MULTILINE)
NAMES = "(?i:answer|final_answer|code|solution|response|python)"
TAGS = re.compile(
    rf"^[ \t]*</?{NAMES}>|</{NAMES}>[ \t]*$|^[ \t]*<\|\w+\|>|<\|\w+\|>[ \t]*$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """The source between two fences; incomplete if the second is missing."""

    source: str
    is_complete: bool


def unescaped(text: str) -> str:
    """The text without terminal escapes and byte order mark, indented by plain spaces."""
    return INDENTED.sub(lambda match: " " * len(match[0]), ESCAPE.sub("", text).lstrip("\ufeff"))


def until_end(text: str) -> str:
    """The text up to the marker of the end of the turn, unless it is in a string literal."""
    for marker in END.finditer(text):
        line = text[text.rfind("\n", 0, marker.start()) + 1 : marker.start()]
        is_at_end = not text[marker.end() : marker.end() + 1].strip()
        if text[: marker.start()].strip() and (is_at_end or not re.search("[\"']", line)):
            return text[: marker.start()]
    return text


def unmarked(text: str) -> str:
    """The text without markers around code, such as `[BEGIN]` and `<answer>`."""
    plain = TAGS.sub("\n", BRACKETS.sub("", text))
    return text if plain == text else plain.strip("\n")


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks in order, without common indentation and Markdown quote markers."""
    # Not splitlines, which also cuts at form feeds and the like: a string may contain them.
    lines, index = re.split(r"\r?\n", text), 0
    while index < len(lines):
        match = FENCE.match(lines[index])
        index += 1
        if match and _opens(match):
            block, index = _block(lines, index, match)
            if block.is_complete or block.source.strip():
                yield block


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a source; None where it is not Python."""
    try:
        return ast.parse(source, FILE)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _block(lines: list[str], start: int, opening: re.Match[str]) -> tuple[Block, int]:
    """The block that begins at a line, and the index of the line after it.

    It ends at the first fence that completes a program, even with text after the fence; if none
    does, at the first fence without text after it. So a fence within a docstring ends nothing.
    """
    is_quoted, num_tries = bool(QUOTED.fullmatch(opening["before"])), 0
    inside, first = list[str](), None
    for number in range(start, len(lines)):
        line = QUOTED.sub("", lines[number], count=1) if is_quoted else lines[number]
        match = FENCE.match(line)
        if match and _may_close(match, opening["fence"]):
            is_bare = not match["language"] and not match["more"].strip()
            if num_tries < MAX_TRIES or is_bare:
                num_tries += 1
                block = _closed(inside, match["before"])
                if is_bare and not _holds_long_string(block.source):
                    return block, number + 1
                if (is_bare or block.source.strip()) and parsed(block.source) is not None:
                    return block, number + (not _opens_python(match))
                first = first or ((block, number + 1) if is_bare else None)
        inside.append(line)
        if first and (num_tries >= MAX_TRIES or number - first[1] > MAX_LINES):
            return first
    return first or (Block(_source(inside).rstrip("\n"), is_complete=False), len(lines))


def _closed(inside: list[str], before: str) -> Block:
    """A block with the text before its last fence, where code and fence share a line."""
    return Block(_source([*inside, before] if before.strip() else inside), is_complete=True)


def _source(lines: list[str]) -> str:
    return BRACKETS.sub("", textwrap.dedent("\n".join(lines)))


def _holds_long_string(source: str) -> bool:
    return '"""' in source or "'''" in source


def _opens(match: re.Match[str]) -> bool:
    before = match["before"].strip()
    is_alone = not before or before in ("-", "*", "+", ">")
    return not before.endswith("`") and (is_alone or not match["more"].strip())


def _opens_python(match: re.Match[str]) -> bool:
    return match["language"].lower() in PYTHON and not match["before"].strip()


def _may_close(match: re.Match[str], fence: str) -> bool:
    is_comment = match["before"].lstrip().startswith("#")
    return match["fence"].startswith(fence) and not is_comment
