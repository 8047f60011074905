"""Code judged by tests in the form of HumanEval+, on made-up questions."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.grading.programs.code import CodeProblem, _job, score
from evals.grading.programs.guest.candidate import NAME, _load
from evals.grading.programs.job import JobResult
from evals.grading.score import Score

FOLDER = Path(__file__).parent
ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (FOLDER / "humaneval_shaped.jsonl").read_text().splitlines()
]
BUGS: dict[str, list[list[str]]] = json.loads((FOLDER / "humaneval_bugs.json").read_text())
SMALL = {
    "prompt": 'import math\n\n\ndef half(x):\n    """Half of x."""\n',
    "entry_point": "half",
    "test": "def check(candidate):\n    for x in range(9):\n        assert candidate(x) == x / 2\n",
    "canonical_solution": "    return x / 2\n",
}


def _problem(**row: Any) -> CodeProblem:
    row.pop("task_id", None)
    return CodeProblem(**row)


@pytest.fixture(scope="module")
def scores(isolation: None) -> dict[tuple[str, str], Score]:
    """By task and by bug, "" for the right solution."""
    with ThreadPoolExecutor(32) as threads:
        futures = {
            (row["task_id"], new): threads.submit(_scored, row, old, new)
            for row in ROWS
            for old, new in [["", ""], *BUGS[row["task_id"]]]
        }
    return {key: future.result() for key, future in futures.items()}


def _scored(row: dict[str, Any], old: str, new: str) -> Score:
    program = row["prompt"] + row["canonical_solution"].replace(old, new)
    return score(f"Here it is:\n\n```python\n{program}```", _problem(**row))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["entry_point"])
def test_the_right_solution_passes(row: Any, scores: dict[tuple[str, str], Score]) -> None:
    result = scores[row["task_id"], ""]
    assert result.correct, result.explanation


@pytest.mark.parametrize(
    ("task", "old", "new"), [(task, *bug) for task, bugs in BUGS.items() for bug in bugs]
)
def test_each_bug_fails(
    task: str, old: str, new: str, scores: dict[tuple[str, str], Score]
) -> None:
    (row,) = (row for row in ROWS if row["task_id"] == task)
    assert row["canonical_solution"].count(old) == 1
    result = scores[task, new]
    assert not result.correct
    assert result.status == "judged", result.explanation


@pytest.mark.parametrize(
    "program",
    [
        "    return x / 2",
        "return x / 2",
        "def half(x):\n    return x * math.pow(2, -1)",
        "from __future__ import annotations\ndef half(x: float | Unknown):\n    return x / 2",
        "import numpy\n\n\ndef half(x):\n    return numpy.float64(x) / 2",
        "half = lambda x: x / 2",
        "from fractions import Fraction\ndef half(x):\n    return Fraction(x, 2)",
        "from decimal import Decimal\ndef half(x):\n    return Decimal(x) / 2",
        "import numpy\ndef half(x):\n    return numpy.float32(x) / numpy.float32(2)",
        "import numpy\ndef half(x):\n    return numpy.longdouble(x) / 2",
        "import numpy\ndef half(x):\n    return numpy.complex64(x) / 2",
        "import numpy\ndef half(x):\n    return numpy.int8(x // 2) if x % 2 == 0 else x / 2",
        "import numpy\ndef half(x):\n    return numpy.array(x / 2)",
        "class Float(float): pass\n\n\ndef half(x):\n    return Float(x / 2)",
        "def half(x):\n    print('checking', x)\n    return x / 2\n\n\nassert half(2) == 1",
        "def half(x):\n    return x / 2\n\n\nif __name__ == '__main__':\n    raise SystemExit(1)",
    ],
)
def test_forms_of_a_right_program(program: str, isolation: None) -> None:
    result = score(f"```python\n{program}\n```", _problem(**SMALL))
    assert result.correct, result.explanation


@pytest.mark.parametrize(
    ("program", "explanation"),
    [
        ("def half(x):\n    return None", "wrong result in test 1"),
        ("def half(x):\n    return x // 2", "wrong result in test 2"),
        ("def half(x):\n    raise KeyError(x)", "raises KeyError in test 1: 0"),
        (
            "def half(x)\n    return",
            "does not load: SyntaxError: expected ':' (<candidate>, line 1)",
        ),
        ("def third(x):\n    return x / 3", "wrong result in test 1"),
        ("import nowhere\n\ndef half(x): 0", "does not load: ModuleNotFoundError: No module named"),
        (
            "from fractions import Fraction\ndef half(x):\n    return Fraction(x, 3)",
            "wrong result in test 2",
        ),
        ("import numpy\ndef half(x):\n    return numpy.float32(x / 3)", "wrong result in test 2"),
        ("import numpy\ndef half(x):\n    return numpy.array([x / 2])", "returns a value of type"),
        ("import numpy\ndef half(x):\n    return numpy.datetime64(x, 's')", "returns a value of"),
        ("def half(x):\n    return {x}, object()", "returns a value of type object, which is not"),
    ],
)
def test_why_a_program_is_wrong(program: str, explanation: str, isolation: None) -> None:
    result = score(f"```python\n{program}\n```", _problem(**SMALL))
    assert (result.correct, result.status) == (False, "judged")
    assert result.explanation.startswith(explanation)


@pytest.mark.parametrize("text", ["", "I cannot do that.", "```python\n```", "x" * 300_000])
def test_an_answer_without_a_program_is_wrong(text: str, isolation: None) -> None:
    result = score(text, _problem(**SMALL))
    assert result == Score(False, None, "no code that defines half")


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        ({"canonical_solution": "    return x\n"}, "wrong result in test 2"),
        ({"test": "def check(candidate):\n    pass\n"}, "the tests never call the function"),
        ({"test": "def check(candidate)\n    pass\n"}, "the tests do not load: SyntaxError"),
        ({"test": "import os\nos._exit(0)\n"}, "the tests ended with status 0"),
        ({"test": "x = 1\n"}, "the tests do not load: KeyError"),
    ],
)
def test_a_broken_problem_is_unjudged(
    change: dict[str, str], explanation: str, isolation: None
) -> None:
    result = score("```python\ndef half(x):\n    return x / 2\n```", _problem(**SMALL | change))
    assert (result.correct, result.status) == (False, "unjudged")
    assert explanation in result.explanation


def test_long_integers_are_compared(isolation: None) -> None:
    long = f"1{'0' * 9999}"
    test = f"def check(candidate):\n    assert candidate({long}) == {long} // 2\n"
    change = {"test": test, "canonical_solution": "    return x // 2\n"}
    result = score(
        "```\ndef half(x):\n    return int(str(x)) // 2\n```", _problem(**SMALL | change)
    )
    assert result.correct, result.explanation


def test_tests_that_catch_everything_do_not_hide_an_exit(isolation: None) -> None:
    test = """
def check(candidate):
    assert candidate(2) == 1
    try:
        candidate(4)
    except:
        pass
"""
    problem = _problem(**SMALL | {"test": test})
    result = score(
        "```\nimport os\ndef half(x):\n    return 1 if x == 2 else os._exit(0)\n```", problem
    )
    assert not result.correct
    assert result.explanation == "ends with status 0 in test 2, before the tests have finished"


def test_results_that_stop_the_tests_are_wrong(isolation: None) -> None:
    """Such results delayed the tests for minutes and then were not judged."""
    test = """
def check(candidate):
    for x in range(9):
        out = candidate(x)
        assert out == x / 2, str(out)
"""
    program = "```python\ndef half(x):\n    return [1 << 9 * 10**5] * 200\n```"
    result = score(program, _problem(**SMALL | {"test": test}))
    assert (result.correct, result.status) == (False, "judged")
    assert result.explanation == "its results stop the tests: the tests ended with status 152"


def test_limits_follow_from_the_right_solution() -> None:
    """As in evalplus: four times the seconds of the right solution, and at least a second."""
    reference = JobResult("passed", "", load_seconds=1.0, seconds=(0.1, 2.0), judge_seconds=3.0)
    job = _job(_problem(**SMALL), "", reference)
    assert job.limits == (1.0, 8.0, 1.0)
    assert job.load_seconds == 4.0 + 2.0
    assert job.total_seconds == 9.0 + 1.0
    assert job.judge_seconds == 12 + 5
    slow = _job(_problem(**SMALL), "", replace(reference, seconds=(100.0,)))
    assert slow.total_seconds == 61.0


def test_the_function_in_the_prompt_is_not_a_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt also defines the function, with only a docstring as its body."""
    monkeypatch.setitem(sys.modules, NAME, None)  # restored afterwards
    with pytest.raises(NameError, match="half is not defined"):
        _load(SMALL["prompt"], "half_of = 2", "half")
    assert _load(SMALL["prompt"], "half = math.sqrt", "half")(4) == 2


def test_arguments_and_results_keep_their_types(isolation: None) -> None:
    test = """
from decimal import Decimal
from fractions import Fraction

VALUES = [0, -1, 2**9999, True, None, 1.5, -0.0, float("inf"), 1j, "é\\x00\\ud800", b"\\xff", (),
          [(1, [2.0])], {1, 2}, frozenset({(3,)}), {"a": {None: (1,)}}, bytearray(b"x"),
          Fraction(-1, 3), [Fraction(2**9999, 3)], Decimal("1.50"), {Decimal("-0"): Decimal("NaN")}]

def check(candidate):
    for value in VALUES:
        out = candidate(value, other=[value])
        assert repr(out) == repr((value, [value])), (out, value)
        assert type(out[0]) is type(value)
"""
    change = {"test": test, "canonical_solution": "    return x, other\n"}
    change["prompt"] = "def half(x, *, other):\n"
    result = score(
        "```\ndef half(x, *, other):\n    return x, other\n```", _problem(**SMALL | change)
    )
    assert result.correct, result.explanation


@pytest.mark.parametrize(
    ("right", "wrong"), [("[]", "5"), ("[]", "True"), ("[1.0]", "1"), ("[2, 2]", "2")]
)
def test_a_numpy_scalar_does_not_equal_a_list(right: str, wrong: str, isolation: None) -> None:
    """Unconverted, a numpy scalar equals a list of its value, and an empty list."""
    test = f"def check(candidate):\n    if candidate(1) != {right}:\n        raise ValueError\n"
    change = {"test": test, "canonical_solution": f"    return {right}\n"}
    program = f"import numpy\ndef half(x):\n    return numpy.array({wrong})[()]"
    result = score(f"```python\n{program}\n```", _problem(**SMALL | change))
    assert (result.correct, result.explanation) == (False, "wrong result in test 1 (ValueError)")


@pytest.mark.parametrize(
    ("value", "explanation"),
    [
        ("Fraction(1, 10**4400)", "returns a fraction of more than 4300 digits in test 1"),
        ("Fraction(10**4400)", "returns a fraction of more than 4300 digits in test 1"),
        ("Decimal('1e999999999')", "returns a decimal of more than 4300 digits in test 1"),
        ("[Decimal('0.' + '1' * 4300)]", "returns a decimal of more than 4300 digits in test 1"),
    ],
)
def test_exact_numbers_with_too_many_digits_are_refused(
    value: str, explanation: str, isolation: None
) -> None:
    program = (
        f"from decimal import Decimal\nfrom fractions import Fraction\nhalf = lambda x: {value}"
    )
    result = score(f"```python\n{program}\n```", _problem(**SMALL))
    assert (result.correct, result.explanation) == (False, explanation)


ADD = {
    "prompt": 'def add(a, b):\n    """The sum."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n",
    "canonical_solution": "    return a + b\n",
}
SUM = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    "text",
    [
        f"{SUM}<|endoftext|>",
        f"<answer>```python\n{SUM}\n```</answer>",
        f"[BEGIN]\n{SUM}\n[DONE]",
        f"\x1b[?25l```python\n{SUM}\n```\x1b[?25h",
        f"```python\n{SUM}\n```\nYou can call it like this:\n"
        "```python\nadd = add(1, 2)\nprint(add)\n```",
        f"```python\n{SUM}\n\nadd = add(int(input()), 2)\n```",
        f"```python\n{SUM}\n\nassert add(1, 2) == 4\n``` as you see",
        "result = a\n    result += b\n    return result\n\nThat is the sum.",
    ],
)
def test_a_right_program_in_an_odd_answer(text: str, isolation: None) -> None:
    result = score(text, _problem(**ADD))
    assert result.correct, result.explanation


@pytest.mark.parametrize(
    "text",
    [
        f"def add(a, b):\n    return a - b<|endoftext|>\n{SUM}",
        f"```python\n{SUM}\n```\nNo:\n```python\ndef add(a, b):\n    return a - b\n```",
        "    return a - b\n\n\nassert add(2, 3) == 5\n",
        "I would return a + b",
    ],
)
def test_a_wrong_program_in_an_odd_answer(text: str, isolation: None) -> None:
    result = score(text, _problem(**ADD))
    assert (result.correct, result.status) == (False, "judged")
