"""The table of judgements, and answers that hang, for which there are workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.grading import comparison, mathematics
from evals.grading.boxed import EMPTY, MISSING, UNTERMINATED
from evals.grading.mathematics import classes, extract, judge, problem, score
from evals.grading.notation.latex import tidy
from tests.evals.grading.cases import load

HANGS = "9^{9^{9^9}}"

TABLE = [*load("mathematics"), *load("equality")]


def judgements(verdict: str) -> Iterator[Any]:
    for row in TABLE:
        answers = row.get(verdict, [])
        texts = (
            [row["text"]] if answers is True else [rf"$\boxed{{{answer}}}$" for answer in answers]
        )
        for text in texts:
            yield pytest.param(text, row["gold"], id=f"{row['form']}: {row['gold']} ~ {text}")


@pytest.mark.parametrize(("text", "gold"), list(judgements("right")))
def test_right_answers(text: str, gold: str) -> None:
    result = score(text, gold)
    assert result.correct, result.explanation
    assert result.status == "judged"


@pytest.mark.parametrize(("text", "gold"), list(judgements("wrong")))
def test_wrong_answers(text: str, gold: str) -> None:
    result = score(text, gold)
    assert not result.correct, result.explanation
    assert result.status == "judged"


@pytest.mark.parametrize(
    "row", [row for row in TABLE if "limit" in row], ids=lambda row: row["limit"]
)
def test_known_limits(row: dict[str, Any]) -> None:
    result = judge(row["answer"], row["gold"])
    assert (result.correct, result.status) == (row["graded"] == "right", "judged")
    assert row["limit"] in " ".join((mathematics.__doc__ or "").split())


@pytest.mark.parametrize("gold", sorted({row["gold"] for row in TABLE if "hangs" not in row}))
def test_every_gold_answer_equals_itself_with_other_spaces(gold: str) -> None:
    assert judge(f" {gold}. ", gold).correct


def test_answers_that_hang_are_killed_and_time_out() -> None:
    rows = [row for row in TABLE if "hangs" in row]
    with ThreadPoolExecutor(len(rows)) as threads:
        scores = list(threads.map(lambda row: judge(row["hangs"], row["gold"], limit=1), rows))
    assert [(score.correct, score.status) for score in scores] == [(False, "timed_out")] * len(rows)
    assert all("not done after 1 s" in score.explanation for score in scores)


def test_the_table_is_large_and_balanced() -> None:
    num_right, num_wrong = (len(list(judgements(verdict))) for verdict in ("right", "wrong"))
    assert num_right >= 150
    assert num_wrong >= 150
    assert 0.4 < num_right / (num_right + num_wrong) < 0.6


def test_a_hanging_answer_delays_no_other() -> None:
    with ThreadPoolExecutor(2) as threads:  # starts two workers
        list(threads.map(lambda name: judge(f"{name}+1", f"1+{name}"), "xy"))
    hanging = threading.Event()
    done_before: list[bool] = []

    def hang() -> str:
        status = judge(HANGS, r"\frac{\pi}{2}", limit=2).status
        hanging.set()
        return status

    def judge_many() -> None:
        for number in range(2, 22):
            assert judge(rf"\frac{{{number}}}{{3}}", rf"\frac{{{2 * number}}}{{6}}").correct
        done_before.append(not hanging.is_set())

    with ThreadPoolExecutor(4) as threads:
        status = threads.submit(hang)
        for judging in [threads.submit(judge_many) for _ in range(3)]:
            judging.result()
        assert status.result() == "timed_out"
    assert done_before == [True] * 3


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("5", MISSING),
        (r"\boxed{}", EMPTY),
        (r"\boxed{5", UNTERMINATED),
        (r"\boxed{5+}", "cannot be read as mathematics"),
        (rf"\boxed{{{'1' * 5000}}}", "longer than 2000 characters"),
    ],
)
def test_why_an_answer_is_wrong(text: str, explanation: str) -> None:
    result = score(text, "5")
    assert (result.correct, result.explanation, result.status) == (False, explanation, "judged")


@pytest.mark.parametrize("gold", ["1/0", r"\frac{1}{0}", r"\frac{0}{0}", "1:0"])
def test_a_reference_answer_without_a_value_equals_nothing(gold: str) -> None:
    result = judge("5", gold)
    assert (result.correct, result.status) == (False, "judged")
    assert problem(gold) is not None


@pytest.mark.parametrize(
    "gold",
    ["5", r"\frac12", "x=5", "12:00", "204_5", "no", r"\text{Evelyn}", "19, 46, \\text{ and } 82"],
)
def test_reference_answers_that_accept_other_texts(gold: str) -> None:
    assert problem(gold) is None


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("3/0", "it has no value"),
        ("§", "it cannot be read as mathematics"),
        ("1+", "it cannot be read as mathematics"),
        ("(1,3/0)", "it cannot be read as mathematics"),
        (r"1,2,\ldots,n", "what the dots leave out cannot be compared"),
    ],
)
def test_reference_answers_that_accept_only_their_text(gold: str, reason: str) -> None:
    assert judge(gold, gold).correct
    assert problem(gold) == reason


def test_a_reference_answer_that_cannot_be_read_leaves_others_unjudged() -> None:
    gold = r"\begin{cases}1\\2\end{cases}"
    result = judge("3", gold)
    assert (result.correct, result.status) == (False, "unjudged")
    assert result.explanation == f"the reference answer {gold} cannot be read as mathematics"
    assert judge(gold, gold).correct
    assert judge("3", r"\text{no solution}").status == "judged"


def test_without_math_verify_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    comparison.require_math_verify.cache_clear()
    with pytest.raises(ImportError, match=r"pip install -e '\.\[evals\]'"):
        judge("5", "5")
    comparison.require_math_verify.cache_clear()


def test_extract() -> None:
    assert extract(r"so $\boxed{\frac{1}{2}}$") == r"\frac{1}{2}"
    assert extract("so 5") is None


def test_classes() -> None:
    answers = ["5", "x=5", "6", None, r"\frac{10}{2}", "1,2", "(2,1)", "2,1", r"\text{no}", "No"]
    assert classes(answers) == [0, 0, 2, None, 0, 5, 6, 5, 8, 8]
    assert classes(["pi/2", r"\frac{\pi}{2}", "π/2", "pi*2", "ln(2)", r"\ln 2"]) == [
        0,
        0,
        0,
        3,
        4,
        4,
    ]
    assert classes([r"\frac{1}{i}", "-i", "i", r"\sqrt[3]{-8}", "-2"]) == [0, 0, 2, 3, 3]


def test_classes_of_answers_that_cannot_be_compared() -> None:
    answers = [HANGS, r"\frac12", HANGS, "2 @ 3", "0.5", "2 @ 3", "1" * 3000, "1" * 3000]
    assert classes(answers, limit=1) == [0, 1, 0, 3, 1, 3, 6, 6]


def test_votes_for_numbers_that_differ_stay_apart() -> None:
    assert classes([r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", "2^{-99}"]) == [0, 1, 0]
    assert classes(["10^{-20}", r"2\cdot 10^{-20}", r"\frac{1}{10^{20}}"]) == [0, 1, 0]
    assert classes(["(1,2)", r"1\text{ or }2", "1<x<2", r"\{2,1\}"]) == [0, 1, 0, 1]
    assert classes(["3:4:5", "3:5:4", "6:8:10"]) == [0, 1, 0]


def test_votes_for_the_same_matrix_share_a_class() -> None:
    answers = [r"\frac15\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1/5\\2/5\end{pmatrix}"]
    assert classes(answers) == [0, 0]


FORMS = r"5;x=5;f(2)=5;50\%;50;0.5;\frac12;1,2;(1,2);(2,1);\{2,1\};x<2;(-\infty,2);?;a;\text{a}"


@given(st.lists(st.sampled_from([None, *FORMS.split(";")]), max_size=6))
@settings(deadline=None, max_examples=15)
def test_classes_are_named_by_their_first_answer(answers: list[str | None]) -> None:
    indices = classes(answers)
    for index, (answer, first) in enumerate(zip(answers, indices, strict=True)):
        assert (answer is None) == (first is None)
        if first is not None:
            assert first <= index
            assert indices[first] == first
            assert indices[answers.index(answer)] == first


def test_equivalence_is_symmetric() -> None:
    pool = [row for row in TABLE if isinstance(row.get("right"), list)]
    for row in pool[::6]:
        for answer in [row["right"][-1], row["wrong"][-1]]:
            forward, backward = classes([row["gold"], answer]), classes([answer, row["gold"]])
            assert forward == backward, (row["gold"], answer)


def test_tidy_changes_tidy_text_no_further() -> None:
    rows = [row for row in TABLE if isinstance(row.get("right"), list)]
    for text in [text for row in rows for text in (row["gold"], *row["right"])]:
        assert tidy(tidy(text)) == tidy(text)


@given(st.text("0123456789.,\\ {}^_-+=%()[]abfrctpmsq!~$", max_size=30))
def test_tidy_accepts_any_text(text: str) -> None:
    assert isinstance(tidy(text), str)
