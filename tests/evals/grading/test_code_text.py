"""The extraction of the program that an answer proposes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.grading.programs.text import MAX_CHARACTERS, extract

CASES = json.loads(Path(__file__).with_name("extractions.json").read_text())
PROMPT = 'def half(x):\n    """Half of x."""\n'


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_the_program_is_extracted(case: dict[str, Any]) -> None:
    assert extract(case["text"], "half", PROMPT) == case["program"]


def test_without_a_prompt_a_body_is_not_a_program() -> None:
    assert extract("    return x / 2", "half") is None


@pytest.mark.parametrize("unit", ["(", "[", "-", "a.", "```\n", "``` ", "if x:\n", "\0"])
def test_pathological_text_raises_nothing(unit: str) -> None:
    extract(unit * (MAX_CHARACTERS // len(unit)), "half", PROMPT)
    extract("half = " + unit * 20_000 + "1", "half", PROMPT)


@given(st.text(alphabet="`~ \ndef half(x):return0'\"", max_size=200))
def test_arbitrary_text_raises_nothing(text: str) -> None:
    program = extract(text, "half", PROMPT)
    assert program is None or program.strip()
