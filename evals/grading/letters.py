"""Answers that are the letter of a choice, as in GPQA."""

from __future__ import annotations

import re
from functools import cache

from evals.grading.boxed import MISSING, last_boxed
from evals.grading.letter_clauses import REASON, plain, statements, weak_statements
from evals.grading.score import Score

__all__ = ["extract", "score"]

AMBIGUOUS = "names more than one choice"
MAX_BOXES = 10
_DENIED = re.compile(r"\b(?:not|instead of|rather than)\s*(?:\$|\\\()?\Z")


def score(text: str, gold: str, choices: str = "ABCD") -> Score:
    """Judge the last choice that `text` states as its answer.

    Args:
        text: the sequence, at least from the end of its reasoning.
        gold: the right letter.
        choices: the letters of all choices.
    """
    if len(gold) != 1 or gold not in choices:
        raise ValueError(f"gold is {gold!r}; it must be one of the letters {choices}")
    letter, problem = extract(text, choices)
    if letter is None:
        return Score(False, None, problem)
    if letter != gold:
        return Score(False, letter, f"{letter}, not {gold}")
    return Score(True, letter, f"is {gold}")


def extract(text: str, choices: str = "ABCD") -> tuple[str | None, str]:
    r"""The letter that `text` states as its answer, or None and the reason.

    Accepted, and the last in the text wins: `\boxed{C}`, "Answer: C", "the answer is (C)", "the
    correct option is therefore **C**", "I am sure that option C is correct.", "wait, it's C".
    Without such a statement: "So it is C.", and a last or first line that consists of the letter or
    of a single choice. A letter within a sentence is not an answer, nor is a letter in a condition,
    question, quotation, list or negation. "A or B" is ambiguous. A box without a letter counts only
    where nothing else states an answer.
    """
    start, boxed = _last_box_with_letter(text, choices)
    # Statements after the box, or all statements if no box contains a letter.
    stated = [*statements(plain(text[start:]), choices)]
    if stated:
        last = max(stated, key=lambda match: match.start("letter"))
        return (None, AMBIGUOUS) if last["more"] else (last["letter"].upper(), "")
    if boxed is not None:
        return (None, AMBIGUOUS) if boxed == AMBIGUOUS else (boxed, "")
    last_box = last_boxed(text)
    if letter := _weakly_stated(text, choices):
        return letter, ""
    if last_box.content is not None:
        return None, f"{last_box.content!r} in the box is none of {choices}"
    return None, "no choice is named" if last_box.problem in (None, MISSING) else last_box.problem


def _last_box_with_letter(text: str, choices: str) -> tuple[int, str | None]:
    """The start of the last box with a letter, and the letter or `AMBIGUOUS`; else 0 and None."""
    for _ in range(MAX_BOXES):
        content = last_boxed(text).content
        start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
        if start < 0:
            break
        letter = None if content is None else _only(plain(content), choices)
        if letter and not _DENIED.search(text, max(start - 40, 0), start):
            return start, letter
        text = text[:start]
    return 0, None


def _only(content: str, choices: str) -> str | None:
    """The letter of a box, alone or before the choice's text; `AMBIGUOUS` for several letters."""
    content = content.strip().rstrip("\\ ")
    if match := _alone(choices).fullmatch(content):
        return match["letter"].upper()
    if _several(choices).fullmatch(content):
        return AMBIGUOUS
    match = _leading(choices).match(content)
    return match["letter"].upper() if match else None


def _weakly_stated(text: str, choices: str) -> str | None:
    """The letter of "So it is C.", or of a last or first line that is a letter or a choice."""
    words = plain(text)
    if stated := [*weak_statements(words, choices)]:
        return stated[-1]["letter"].upper()
    lines = [line for line in words.split("\n") if line.strip()]
    for line, neighbour in ((lines[-1:], lines[-2:-1]), (lines[:1], lines[1:2])):
        letter = _of_line(line, choices)
        if letter is not None and _of_line(neighbour, choices) is None:
            return letter
    return None


def _of_line(lines: list[str], choices: str) -> str | None:
    matches = [_alone(choices).fullmatch(line.strip()) for line in lines]
    matches += [_choice(choices).match(line.strip()) for line in lines]
    return next((match["letter"].upper() for match in matches if match), None)


@cache
def _alone(choices: str) -> re.Pattern[str]:
    """Only a letter, of either case, and words or punctuation that may surround it."""
    named = r"(?:the )?(?:(?:correct|right|final|best) )?(?:option|choice|answer)(?: is)? ?:? ?"
    letter = rf"[\"'(\[ ]{{0,4}}(?P<letter>[{re.escape(choices)}])[\"')\].,;:! ]{{0,6}}"
    return re.compile(rf"(?:- )?(?:{named})?{letter}", re.IGNORECASE)


@cache
def _several(choices: str) -> re.Pattern[str]:
    letter = rf"[\"'(\[ ]{{0,4}}(?:(?:option|choice) )?[{re.escape(choices)}][\"')\] ]{{0,4}}"
    return re.compile(rf"{letter}(?:(?:,|/|&|\bor\b|\band\b|;)+{letter})+[. ]*", re.IGNORECASE)


@cache
def _leading(choices: str) -> re.Pattern[str]:
    """A letter before its choice's text: `C) 5 m`, `(C) 5 m`, `C. Both`, `C: 5`, `C - a force`."""
    letter = rf"\(?(?P<letter>[{re.escape(choices)}{re.escape(choices.lower())}])"
    text = r" [-–—]+ .*[A-Za-z]{3}|, .*[A-Za-z]{3}| \([^()]*[A-Za-z]{3}"
    said = rf"\)|[.:](?![A-Za-z0-9])| is (?:correct|right)\b| {REASON}"
    return re.compile(rf"(?:(?i:option|choice|answer):? )?{letter}(?:{said}|{text})", re.DOTALL)


@cache
def _choice(choices: str) -> re.Pattern[str]:
    """A choice as a question lists it: `B) 5 m/s`, `(B) 5 m/s`, `B. 5 m/s`."""
    return re.compile(rf"(?:- )?\(?(?P<letter>[{re.escape(choices)}])(?:\)|[.:])\s+\S")
