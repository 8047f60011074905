"""The rules of Countdown: parsing, refusals, judgements."""

from fractions import Fraction

import pytest

from evals.tasks.countdown_rules import (
    MAX_EXPRESSION_LENGTH,
    Problem,
    evaluate,
    instruction,
    is_correct,
    parse_answer,
)

PROBLEM = Problem(numbers=(3, 8, 3, 18), target=2, level=4)


def test_instruction_has_fixed_width() -> None:
    assert instruction(PROBLEM) == "make 02 from 03 08 03 18"


def test_the_key_ignores_order_and_level_only() -> None:
    assert PROBLEM.key == Problem((18, 3, 3, 8), 2, 1).key
    assert PROBLEM.key != Problem((3, 8, 3, 18), 3, 4).key
    assert PROBLEM.key != Problem((3, 8, 18, 18), 2, 4).key


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1:08-03=05 ok</think>08-03", "08-03"),
        ("</think> 08-03 \n", "08-03"),
        ("<think>a</think>1+1<think>b</think>2+2", "1+1<think>b</think>2+2"),
        ("08+03=11</think>18-11</think>", "18-11</think>"),
        ("1:08-03=05 ok", None),
        ("1:08-03=05 ok</think>", None),
        ("1:08-03=05 ok</think> \n", None),
        ("", None),
    ],
)
def test_parse_answer(text: str, answer: str | None) -> None:
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    ("expression", "value", "numbers"),
    [
        ("07", 7, (7,)),
        ("2+3*4", 14, (2, 3, 4)),
        ("(2+3)*4", 20, (2, 3, 4)),
        ("10-3-2", 5, (10, 3, 2)),
        ("48/4/2", 6, (48, 4, 2)),
        ("1/3+1/6", Fraction(1, 2), (1, 3, 1, 6)),
        ("((18-(08+03)))*03", 21, (18, 8, 3, 3)),
        (" 1 + 2 ", 3, (1, 2)),
        ("2-5", -3, (2, 5)),
    ],
)
def test_evaluate(expression: str, value: Fraction, numbers: tuple[int, ...]) -> None:
    assert evaluate(expression) == (value, numbers)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "+",
        "-3",
        "1+",
        "*2",
        "1 2",
        "1++2",
        "(1+2",
        "1+2)",
        "()",
        "(1)(2)",
        "2**3",
        "7//2",
        "4/0",
        "4/(2-2)",
        "1.5",
        "1,2",
        "3=3",
        "²",
        "٣",
        "__import__('os')",
        "(" * 5000 + "1",
        "9" * (MAX_EXPRESSION_LENGTH + 1),
    ],
)
def test_evaluate_refuses(expression: str) -> None:
    with pytest.raises(ValueError, match=r"expression|expected|division"):
        evaluate(expression)


def test_deepest_nesting_that_fits_is_read() -> None:
    depth = (MAX_EXPRESSION_LENGTH - 1) // 2
    assert evaluate("(" * depth + "7" + ")" * depth) == (Fraction(7), (7,))


@pytest.mark.parametrize(
    ("expression", "correct"),
    [
        ("(18-(3*3))-8+1", False),  # a number that was not given
        ("18-8-3", False),  # a number left out
        ("((18-(08+03))-3)-3+1", False),
        ("(18/(3*3))", False),
        ("(18+3+3)/8", False),  # every number once, another value
        ("8-(18/3)", False),  # the value, but a number left out
        ("8-(18*3/3)", False),
        ("8-18/(3/1)", False),
        ("nonsense", False),
    ],
)
def test_is_correct_refuses(expression: str, correct: bool) -> None:
    assert is_correct(PROBLEM, expression) is correct


def test_is_correct_accepts_any_exact_way() -> None:
    assert is_correct(Problem((3, 8, 3, 18), 2, 4), "18/(3*(8-3-2))") is False
    assert is_correct(Problem((3, 8, 3, 18), 3, 4), "(18+3+3)/8")
    assert is_correct(Problem((3, 8, 3, 18), 16, 4), "(18-8)+(3+3)")
    assert is_correct(Problem((3, 3, 8, 8), 24, 4), "8/(3-8/3)")  # only with fractions
