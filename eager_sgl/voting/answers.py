"""Answers of sequences, in a canonical form: sequences with the same text here agree.

A reader takes a sequence and returns its answer, None where it has none. `AnswerClasses` makes of
a reader the classes that votes, stop rules and utilities take:

    Consensus(AnswerClasses(boxed_answer))

Answers stand after the reasoning. All readers are linear in its length, so they may read the texts
of strangers, and `RegexAnswer` may have their patterns.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

from eager_sgl.core import Sequence
from eager_sgl.voting.once import OncePerSequence

__all__ = [
    "AnswerClasses",
    "AnswerReader",
    "RegexAnswer",
    "ToolCall",
    "ToolCallAnswer",
    "boxed_answer",
    "canonical_json",
    "json_answer",
]

AnswerReader = Callable[[Sequence], str | None]
"""The answer of a sequence in a canonical form; None if it has none."""

_BOX = "\\boxed{"
_MAX_BOX = 1000
"""Characters of the content of a box; a longer one is none, so that reading stays linear."""
_MAX_TEXT = 100_000
"""Characters at the end of a text in which JSON is searched."""
_MAX_FAILURES = 1000
_OBJECT = re.compile(r'\{\s*["}]')


class AnswerClasses:
    """The classes of sequences by a reader, which reads every sequence once."""

    def __init__(self, reader: AnswerReader) -> None:
        self._read = OncePerSequence(reader)

    def __call__(self, sequences: Items[Sequence]) -> list[str | None]:
        return [self._read(sequence) for sequence in sequences]


def boxed_answer(sequence: Sequence) -> str | None:
    r"""The content of the last complete `\boxed{…}`, without white space."""
    text = sequence.final_text
    end = len(text)
    while (start := text.rfind(_BOX, 0, end)) >= 0:
        content = _until_closed(text[start + len(_BOX) : start + len(_BOX) + _MAX_BOX + 1])
        if content is not None:
            return "".join(content.split()) or None
        end = start
    return None


def _until_closed(text: str) -> str | None:
    """The text up to the brace that closes it; None without one."""
    depth = 1
    for position, character in enumerate(text):
        if character in "{}":
            depth += 1 if character == "{" else -1
        if depth == 0:
            return text[:position]
    return None


def json_answer(sequence: Sequence) -> str | None:
    """The JSON value of a sequence, by `canonical_json`.

    The value is the whole text; else the last fenced block that is one; else the last object.
    """
    text = sequence.final_text[-_MAX_TEXT:]
    blocks = text.split("```")[1::2]
    unnamed = [part for block in reversed(blocks) for part in (block, block.partition("\n")[2])]
    for part in (text, *unnamed):
        if (found := canonical_json(part)) is not None:
            return found
    return _last_object(text)


def canonical_json(text: str) -> str | None:
    """A JSON text with sorted keys, no white space and equal numbers alike; None if it is none."""
    try:
        return _dumped(_DECODER.decode(text.strip()))
    except (ValueError, RecursionError):
        return None


def _last_object(text: str) -> str | None:
    found, num_failures, num_characters = None, 0, 0
    match = _OBJECT.search(text)
    while match and num_failures < _MAX_FAILURES and num_characters < 10 * _MAX_TEXT:
        try:
            value, end = _DECODER.raw_decode(text, match.start())
            found = _dumped(value)
        except json.JSONDecodeError as error:
            end = match.start() + 1
            num_failures, num_characters = num_failures + 1, num_characters + error.pos - end
        except (ValueError, RecursionError):
            return found
        match = _OBJECT.search(text, end)
    return found


def _dumped(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode()  # halves of surrogate pairs


def _number(text: str) -> int | float:
    """An exact integer, also of 1.0 and 1e2; else the nearest float."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    if abs(value) >= 2**53 and text.lstrip("-").isdecimal():
        return int(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_refuse_constant)


@dataclass(frozen=True)
class RegexAnswer:
    """The last match of a regular expression: its first group if it has one, else all of it.

    The syntax is that of RE2, without look-around and references to groups, so that a match is
    found in linear time.

    Attributes:
        pattern: at most 500 characters.

    Raises:
        ValueError: the pattern is none of RE2, or too large; when called, the matches of a text
            are not found within a fifth of a second.
    """

    pattern: str
    _compiled: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", _compiled(self.pattern))

    def __call__(self, sequence: Sequence) -> str | None:
        group, deadline = int(self._compiled.groups > 0), time.monotonic() + _MAX_SECONDS
        found: str | None = None
        for match in self._compiled.finditer(sequence.final_text[-_MAX_MATCHED:]):
            found = match.group(group)
            if time.monotonic() > deadline:
                raise ValueError(f"the regex {self.pattern!r} takes too long; make it simpler")
        return (found or "").strip() or None


_MAX_PATTERN, _MAX_GROUPS, _MAX_PROGRAM, _MAX_MATCHED = 500, 4, 1000, 10_000
"""Characters, groups and instructions of a pattern, and characters at the end of a text. RE2 finds
a match in a time of the order of their product, a tenth of a second."""
_MAX_SECONDS = 0.2


def _compiled(pattern: str) -> Any:
    import re2

    if len(pattern) > _MAX_PATTERN:
        raise ValueError(f"the regex has {len(pattern)} characters; {_MAX_PATTERN} are allowed")
    options = re2.Options()
    options.max_mem, options.log_errors = 1 << 18, False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace")
        raise ValueError(f"the regex {pattern!r} is not one of RE2: {reason}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"the regex {pattern!r} has half of a surrogate pair") from error
    if compiled.groups > _MAX_GROUPS or compiled.programsize > _MAX_PROGRAM:
        raise ValueError(
            f"the regex has {compiled.groups} groups and {compiled.programsize} instructions; "
            f"{_MAX_GROUPS} and {_MAX_PROGRAM} are allowed"
        )
    return compiled


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        name: of the tool.
        arguments: a JSON object, as the model wrote it.
    """

    name: str
    arguments: str


@dataclass(frozen=True)
class ToolCallAnswer:
    """The calls of tools, in their order, as a JSON list of names and arguments.

    A finished sequence without a call answers with no call, `[]`; one that was ended has no answer.

    Attributes:
        parse: the calls of a sequence; how models write them differs.
    """

    parse: Callable[[Sequence], Items[ToolCall]]

    def __call__(self, sequence: Sequence) -> str | None:
        calls = self.parse(sequence)
        if not calls and sequence.finish_reason != "stop":
            return None
        return f"[{','.join(map(_canonical_call, calls))}]"


def _canonical_call(call: ToolCall) -> str:
    arguments = canonical_json(call.arguments) or _dumped(call.arguments)
    return f'{{"arguments":{arguments},"name":{_dumped(call.name)}}}'
