"""The user's file of prompts: what a line may hold, and the message for a wrong line."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.tasks import find_task
from evals.tasks.prompt_file import PromptFile

FIXTURES = Path(__file__).parent / "fixtures"
GOOD = {"id": "a", "prompt": "2 + 2?", "answer": "4"}


def write(folder: Path, *lines: Any) -> str:
    path = folder / "own.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))
    return str(path)


def test_a_file_loads() -> None:
    task = find_task(str(FIXTURES / "own.jsonl"))
    assert (task.has_labels, task.can_vote, task.needs_isolation) == (True, True, False)
    assert task.name == str(FIXTURES / "own.jsonl")
    samples = {sample.id: sample for sample in task.load(None, None, 0)}
    assert samples["sum"].prompt[0]["content"].startswith("What is 2 + 2?")
    assert samples["half"].prompt == [
        {"role": "user", "content": "What is a half of 3? Put the answer into \\boxed{}."}
    ]
    assert {sample.level for sample in task.load(None, (1,), 0)} == {1}
    assert len(task.load(2, None, 0)) == 2


@pytest.mark.parametrize(
    ("sample_id", "right", "wrong"),
    [
        ("sum", "\\boxed{4}", "\\boxed{5}"),
        ("half", "It is $\\boxed{1.5}$", "It is $\\boxed{1.4}$"),
        ("choice", "Answer: B", "Answer: A"),
        ("word", " paris \n", "Paris, France"),
    ],
)
def test_every_grader_judges(sample_id: str, right: str, wrong: str) -> None:
    task = find_task(str(FIXTURES / "own.jsonl"))
    sample = next(sample for sample in task.load(None, None, 0) if sample.id == sample_id)
    score = task.score(sample, right)
    assert (score.correct, score.status) == (True, "judged")
    assert not task.score(sample, wrong).correct
    assert task.classes(sample, [score.answer, None, score.answer]) == [0, None, 0]


def test_an_empty_text_is_no_answer() -> None:
    task = find_task(str(FIXTURES / "own.jsonl"))
    sample = next(sample for sample in task.load(None, None, 0) if sample.id == "word")
    assert task.score(sample, " \n").answer is None


def test_without_answers_nothing_is_judged() -> None:
    task = find_task(str(FIXTURES / "own_unlabelled.jsonl"))
    assert (task.has_labels, task.can_vote) == (False, False)
    sample = task.load(1, None, 0)[0]
    score = task.score(sample, "4")
    assert (score.correct, score.answer, score.status) == (False, None, "unjudged")
    assert task.classes(sample, ["4", "4"]) == [None, None]


def test_numbers_are_answers_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD | {"answer": 4}, "", {"id": "b", "prompt": "p", "answer": 1.5})
    references = {s.id: s.reference for s in find_task(path).load(None, None, 0)}
    assert references == {"a": ("4", "math"), "b": ("1.5", "math")}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ('["a"]', "not a JSON object"),
        ({"prompt": "p"}, "id is missing"),
        ({"id": "b"}, "prompt is missing"),
        ({"id": 1, "prompt": "p"}, "id is 1; it must be a text"),
        ({"id": "a", "prompt": "p", "answer": "1"}, "id 'a' repeats that of an earlier line"),
        ({"id": "b", "prompt": ""}, "prompt is ''; it must be a text"),
        ({"id": "b", "prompt": 3}, "prompt is 3; it must be a text or a list"),
        ({"id": "b", "prompt": []}, "prompt is []"),
        ({"id": "b", "prompt": [{"role": "user"}]}, "must have role and content"),
        ({"id": "b", "prompt": [{"role": "user", "content": 3}]}, "content is 3"),
        (
            {"id": "b", "prompt": "p", "anwser": "4"},
            "unknown field 'anwser'; choose from id, prompt",
        ),
        ({"id": "b", "prompt": "p", "answer": "4", "level": 0}, "level is 0"),
        ({"id": "b", "prompt": "p", "answer": "4", "level": True}, "level is True"),
        ({"id": "b", "prompt": "p", "answer": "4", "level": "hard"}, "level is 'hard'"),
        ({"id": "b", "prompt": "p", "answer": "4", "grader": "judge"}, "unknown grader 'judge'"),
        ({"id": "b", "prompt": "p", "answer": ""}, "answer is ''"),
        ({"id": "b", "prompt": "p", "answer": ["4"]}, "answer is ['4']"),
        (
            {"id": "b", "prompt": "p", "answer": "1234", "grader": "integer"},
            "gold is '1234'; it must be an integer from 0 to 999",
        ),
        (
            {"id": "b", "prompt": "p", "answer": "E", "grader": "letter"},
            "gold is 'E'; it must be one of the letters ABCD",
        ),
        (
            {"id": "b", "prompt": "p", "answer": "\\frac{1}{2"},
            "answer is '\\\\frac{1}{2', which math does not accept: a \\boxed{ is never closed",
        ),
        (
            {"id": "b", "prompt": "p", "answer": "3/0"},
            "answer is '3/0', which math can only compare with the same text: it has no value",
        ),
        (
            {"id": "b", "prompt": "p", "answer": "§"},
            "answer is '§', which math can only compare with the same text: it cannot be read",
        ),
        (
            {"id": "b", "prompt": "p", "answer": "1,2,\\ldots,n", "grader": "math"},
            "what the dots leave out cannot be compared; write it as mathematics, or choose",
        ),
        ({"id": "b", "prompt": "p", "grader": "math"}, "grader is 'math', but answer is missing"),
        ({"id": "b", "prompt": "make \ud83d 2+2"}, "prompt holds '\\ud83d', half of a surrogate"),
        ({"id": "b\udc00", "prompt": "p"}, "id holds '\\udc00', half of a surrogate pair"),
        ({"id": "b", "prompt": "p", "answer": "\ude00\ud83d"}, "answer holds '\\ude00', half of"),
        (
            {"id": "b", "prompt": [{"role": "user", "content": "2\udfff"}]},
            "prompt holds '\\udfff', half of a surrogate pair, which is no character; write both",
        ),
        ({"id": "b", "prompt": "p", "answer": "4", "level": "\ud800"}, "level holds '\\ud800'"),
        (
            {"id": "b", "prompt": "p"},
            "answer is missing, but given in earlier lines; give all or none",
        ),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path, GOOD, "", line)
    with pytest.raises(ValueError, match="^line 3 of ") as caught:
        find_task(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("answer", ["12:00", "19, 46, \\text{ and } 82", "3:4:5", "\\text{no}"])
def test_a_reference_answer_that_accepts_other_texts_is_taken(tmp_path: Path, answer: str) -> None:
    path = write(tmp_path, GOOD, {"id": "b", "prompt": "p", "answer": answer})
    assert len(find_task(path).load(None, None, 0)) == 2


@pytest.mark.parametrize("answer", ["3/0", "§", "1,2,\\ldots,n"])
def test_the_text_grader_takes_answers_that_are_not_mathematics(
    tmp_path: Path, answer: str
) -> None:
    path = write(tmp_path, {"id": "a", "prompt": "p", "answer": answer, "grader": "text"})
    assert len(find_task(path).load(None, None, 0)) == 1


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    """U+2028 may stand in a JSON string; str.splitlines cuts there."""
    path = tmp_path / "own.jsonl"
    line = '{"id": "a", "prompt": "x\u2028y\x85z", "answer": "4"}'
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n".encode())
    (sample,) = find_task(str(path)).load(None, None, 0)
    assert sample.prompt[0]["content"] == "x\u2028y\x85z"


def test_both_halves_of_a_surrogate_pair_are_a_character(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": "a", "prompt": "make \\ud83d\\ude00 2+2", "answer": "4"}')
    (sample,) = find_task(path).load(None, None, 0)
    assert sample.prompt[0]["content"] == "make \N{GRINNING FACE} 2+2"


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'\xff\xfe{"id": "a"}')
    with pytest.raises(ValueError, match=r"cannot read .*own\.jsonl: it is not in UTF-8"):
        find_task(str(path))


def test_an_answer_after_lines_without_answers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "b", "prompt": "p"}, GOOD)
    with pytest.raises(
        ValueError, match="line 2 .* answer is given, but not given in earlier lines"
    ):
        find_task(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*absent\.jsonl: No such file"):
        find_task(str(tmp_path / "absent.jsonl"))


def test_a_prompt_file_takes_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--dataset is for the tasks with a dataset"):
        find_task(write(tmp_path, GOOD), tmp_path)


def test_a_task_can_be_switched_to_another_file() -> None:
    task = PromptFile.read(FIXTURES / "own.jsonl").using(FIXTURES / "own_unlabelled.jsonl")
    assert not task.has_labels
    assert task.to_json() == {"copy": str(FIXTURES / "own_unlabelled.jsonl")}
