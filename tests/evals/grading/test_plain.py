"""Judgements without mathematics: boxes, integers, letters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.grading import integers, letters
from evals.grading.boxed import EMPTY, MISSING, UNTERMINATED, last_boxed
from tests.evals.grading.cases import load


@pytest.mark.parametrize("row", load("integers"), ids=lambda row: row["text"])
def test_integers(row: dict[str, Any]) -> None:
    score = integers.score(row["text"], row["gold"])
    assert (score.correct, score.explanation) == (row["correct"], row["explanation"])
    assert score.status == "judged"


@pytest.mark.parametrize("row", load("letters"), ids=lambda row: row["text"])
def test_letters(row: dict[str, Any]) -> None:
    score = letters.score(row["text"], row["gold"])
    assert (score.correct, score.explanation) == (row["correct"], row["explanation"])
    assert score.status == "judged"


def test_a_gold_answer_of_the_wrong_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"gold is '1000'; it must be an integer from 0 to 999"):
        integers.score(r"\boxed{5}", "1000")
    with pytest.raises(ValueError, match="gold is 'E'; it must be one of the letters ABCD"):
        letters.score("Answer: A", "E")


def test_there_can_be_more_than_four_choices() -> None:
    assert letters.score("Answer: J", "J", "ABCDEFGHIJ").correct


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: I", "I"),
        ("The answer is I.", "I"),
        (r"\boxed{I}", "I"),
        ("Answer: I. Both of them", "I"),
        ("Answer: I think it is C", "C"),
        ("I am sure that J is correct.", "J"),
        ("Answer: I am not sure", None),
        ("The answer is I think none", None),
        (r"\boxed{I think so}", None),
    ],
)
def test_the_pronoun_is_not_a_choice(text: str, letter: str | None) -> None:
    assert letters.extract(text, "ABCDEFGHIJ")[0] == letter


@pytest.mark.parametrize(
    ("text", "content", "problem"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", None),
        (r"\boxed{\{1,2\}}", r"\{1,2\}", None),
        (r"\boxed{\}}", r"\}", None),
        (r"\boxed{1} \boxed{2}", "2", None),
        (r"\boxed{1} \boxed{2", "1", None),
        (r"\boxed{a \boxed{b} c}", "b", None),
        (r"{ \boxed{5}", "5", None),
        (r"\\boxed{5}", "5", None),
        ("\\boxed\n{ 7 }", "7", None),
        (r"\fbox{3}", "3", None),
        (r"so \boxed 5.", "5", None),
        (r"$\boxed 5$", "5", None),
        ("5", None, MISSING),
        (r"\boxedness{5}", None, MISSING),
        (r"\boxed{ }", None, EMPTY),
        (r"\boxed{5} \boxed{}", "5", None),
        (r"\boxed{5}, put within \boxed{\ } as asked", "5", None),
        (r"\boxed{5} in the form \boxed{\ldots}", "5", None),
        (r"\boxed{5} in \boxed{...}", "5", None),
        (r"\boxed{5} or \boxed{\text{ }}", "5", None),
        (r"\boxed{\boxed{}5}", r"\boxed{}5", None),
        (r"\boxed{5} \boxed{0}", "0", None),
        (r"\boxed{ } \boxed{~}", None, EMPTY),
        (r"\boxed{**42**}", "42", None),
        (r"\boxed{`5`}", "5", None),
        (r"\boxed{$5$}", "5", None),
        (r"\boxed{$$\frac{1}{2}$$}", r"\frac{1}{2}", None),
        (r"\boxed{**$x^2$**}", "x^2", None),
        (r"\boxed{__7__}", "7", None),
        (r"\boxed{2**3**2}", "2**3**2", None),
        (r"\boxed{*5}", "*5", None),
        (r"\boxed{$5$ or $6$}", "$5$ or $6$", None),
        (r"\boxed{\$5}", r"\$5", None),
        (r"\boxed{5", None, UNTERMINATED),
        (r"\boxed{a{b}", None, UNTERMINATED),
    ],
)
def test_the_last_complete_box(text: str, content: str | None, problem: str | None) -> None:
    boxed = last_boxed(text)
    assert (boxed.content, boxed.problem) == (content, problem)


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        (r"\boxed{3}, \boxed{5}, \boxed{7}", "3, 5, 7"),
        (r"\boxed{1}\boxed{2}", "1, 2"),
        (r"The roots are $\boxed{1}$ and $\boxed{2}$.", "1, 2"),
        (r"$x=\boxed{1}$, $x=\boxed{2}$", "x=1, x=2"),
        (r"\[\boxed{1} \quad\text{or}\quad \boxed{2}\]", "1, 2"),
        ("So \\boxed{9}.\n\n\\boxed{1},\n\\boxed{2}", "1, 2"),
        (r"\boxed{1}, \boxed{2}, and \boxed{}", "1, 2"),
        (r"\boxed{(1,2)}, \boxed{(3,4)}", "(1,2), (3,4)"),
        (r"\boxed{1}. \boxed{2}", None),
        ("\\boxed{1}\n\n\\boxed{2}", None),
        (r"First \boxed{1}, or better \boxed{2}", None),
        (r"\boxed{1}, so that \boxed{2}", None),
        (r"\boxed{1} + \boxed{2}", None),
        (r"\boxed{1,2} and \boxed{1,2}", None),
        (r"\boxed{\{1\}}, \boxed{2}", None),
        (r"\boxed{\boxed{1}, \boxed{2}}", "1, 2"),
        (r"\boxed{1 \boxed{2}}", None),
        (r"\boxed{5}", None),
        (r"\boxed{1}" + "," * 100 + r"\boxed{2}", None),
    ],
)
def test_boxes_in_a_list(text: str, listed: str | None) -> None:
    assert last_boxed(text).listed == listed


balanced = st.recursive(
    st.text("ab1 ,", min_size=1, max_size=4),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda parts: f"{{{''.join(parts)}}}"
    ),
)


@given(st.text("ab{}\\ ", max_size=20), balanced)
def test_a_box_is_found_after_any_text(before: str, content: str) -> None:
    # A space, so that a backslash at the end of the text does not escape the box.
    boxed = last_boxed(f"{before} \\boxed{{x{content}}}")
    assert boxed.content == f"x{content}".strip()


@given(st.text("\\boxed{}Answer: CD5\n$", max_size=60))
def test_no_text_makes_a_judge_fail(text: str) -> None:
    assert integers.score(text, "5").status == letters.score(text, "C").status == "judged"


@pytest.mark.parametrize(
    "text",
    [
        "\\" * 50_000,
        "\\boxed{" * 12_500,
        "\\boxed{}" * 5_000,
        "\\boxed{x}, " * 5_000,
        "\\boxed{x}" + "and " * 12_500 + "\\boxed{x}",
        "Answer:" + " " * 50_000,
        "answer is " * 10_000,
        "Thus" + " " * 50_000,
        "\n" * 50_000,
        "." * 50_000,
        "So " * 17_500,
        "Answer: A, " * 5_000,
        "wait, " * 7_500,
        "no, wait, " * 5_000,
        "The answer is " * 3_500,
        "\\boxed{x} " * 5_000,
    ],
)
def test_long_repetitions_are_read_in_a_single_pass(text: str) -> None:
    """A quadratic search would take minutes."""
    assert not integers.score(text, "5").correct
    assert not letters.score(text, "C").correct
