"""Answers in a canonical form, from texts and patterns of strangers."""

from __future__ import annotations

import contextlib
import gc
import json
import time
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.core import FinishReason, Sequence
from eager_sgl.voting.answers import (
    AnswerClasses,
    RegexAnswer,
    ToolCall,
    ToolCallAnswer,
    boxed_answer,
    canonical_json,
    json_answer,
)


def sequence(final_text: str, finish_reason: FinishReason = "stop") -> Sequence:
    return Sequence((1,), (0.0,), finish_reason, final_text=final_text)


BOXES = {
    "no box": None,
    r"\boxed{12}": "12",
    r"first \boxed{1}, then \boxed{2}.": "2",
    r"\boxed{\frac{1}{2}} and \boxed{unclosed": r"\frac{1}{2}",
    r"\boxed{ 1 + x }": "1+x",
    r"\boxed{}": None,
    r"\boxed{{}": None,
    r"\boxed{1}" + r"\boxed{" * 5000: "1",
}


@pytest.mark.parametrize("text", BOXES)
def test_the_answer_is_in_the_last_box(text: str) -> None:
    assert boxed_answer(sequence(text)) == BOXES[text]


JSON = {
    '{"b": 1, "a": [1.0, 2.50]}': '{"a":[1,2.5],"b":1}',
    ' {"a": 1e2} \n': '{"a":100}',
    "42": "42",
    '"ß"': '"ß"',
    "null": "null",
    'I say {"a": 1}, no, {"a": {"b": 2}}.': '{"a":{"b":2}}',
    'So:\n```json\n{"a": 1}\n```\nnot {"a": 2}': '{"a":1}',
    "```\n[1, 2]\n```": "[1,2]",
    r"\frac{1}{2} and {x} are none": None,
    'open {"a": 1': None,
    '{"a": NaN}': None,
    "12345678901234567890": "12345678901234567890",
    "9" * 400: None,
    '{"a": "\\ud800"}': '{"a":"\\ud800"}',
    "prose": None,
    "": None,
}


@pytest.mark.parametrize("text", JSON)
def test_the_answer_is_the_last_json_value(text: str) -> None:
    assert json_answer(sequence(text)) == JSON[text]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Halves of surrogate pairs are escaped, and then are other texts.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(VALUES, st.randoms(use_true_random=False))
def test_equal_values_have_one_form(value: Any, rng: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, shuffled(item)) for key, item in value.items()]
            rng.shuffle(items)
            return dict(items)
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    form = canonical_json(json.dumps(value))
    assert form is not None
    assert canonical_json(json.dumps(shuffled(value), indent=1)) == form == canonical_json(form)


HOSTILE = ["{" * 50_000, '{"a":' * 20_000, "[" * 100_000, '{ "' * 30_000, "```" * 30_000]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_read_in_time(text: str) -> None:
    started = time.process_time()
    assert json_answer(sequence(text)) is None
    assert boxed_answer(sequence(text)) is None
    assert time.process_time() - started < 5


PATTERNS = {
    r"\d+": "123",
    r"answer is (\w+)": "b",
    r"(?i)ANSWER IS (?P<name>\w)": "b",
    r"no such (\d)": None,
    r"x*": None,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_answer_is_the_last_match(pattern: str) -> None:
    text = "7: the answer is a. Wait, the answer is b: 123."
    assert RegexAnswer(pattern)(sequence(text)) == PATTERNS[pattern]


REFUSED = {
    "(": "not one of RE2",
    r"(?=a)": "not one of RE2",
    r"(a)\1": "not one of RE2",
    "a{1001}": "not one of RE2",
    "((a{500}){500})": "not one of RE2",
    "(a{1,50}){1,20}": "instructions",
    "(a)" * 9: "9 groups",
    "a" * 501: "501 characters",
    "\ud800": "surrogate",
}


@pytest.mark.parametrize("pattern", REFUSED)
def test_a_pattern_that_cannot_be_bounded_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[pattern]):
        RegexAnswer(pattern)


SLOW = [r"(a+)+$", r"(a|a)*b", r"(.*?,){9}x", r"(?:a?){90}a{90}", r"(\w+\s*){60}", r".*x|a"]


@pytest.mark.parametrize("pattern", SLOW)
@pytest.mark.parametrize("text", ["a" * 50_000, "a," * 30_000, "aé " * 20_000], ids="abc")
def test_no_pattern_hangs(pattern: str, text: str) -> None:
    answer, started = RegexAnswer(pattern), time.process_time()
    with contextlib.suppress(ValueError):
        answer(sequence(text))
    assert time.process_time() - started < 5


def test_calls_agree_by_name_and_arguments() -> None:
    calls = {
        "a": [ToolCall("f", '{"x": 1.0, "y": "é"}')],
        "b": [ToolCall("f", '{"y":"é","x":1}')],
        "c": [ToolCall("g", '{"y":"é","x":1}')],
        "d": [ToolCall("f", "no JSON")],
        "": [],
    }
    answer = ToolCallAnswer(lambda sequence: calls[sequence.final_text])
    answers = [answer(sequence(text)) for text in calls]
    assert answers[0] == answers[1] == '[{"arguments":{"x":1,"y":"é"},"name":"f"}]'
    assert len(set(answers)) == 4
    assert answers[4] == "[]"
    assert answer(sequence("", "length")) is None


def test_every_sequence_is_read_once() -> None:
    read: list[str] = []

    def reader(sequence: Sequence) -> str:
        read.append(sequence.final_text)
        return sequence.final_text

    classes, first = AnswerClasses(reader), [sequence("a"), sequence("b")]
    assert classes(first) == ["a", "b"]
    assert classes([*first, sequence("a")]) == ["a", "b", "a"]
    assert read == ["a", "b", "a"]


def test_sequences_that_were_read_are_not_kept() -> None:
    """A service reads those of many prompts with the same classes."""
    classes, read = AnswerClasses(boxed_answer), sequence("a")
    classes([read])
    kept = weakref.ref(read)
    del read
    gc.collect()
    assert kept() is None
