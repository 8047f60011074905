"""The Countdown task: its prompts, its judgements, its classes of equivalent answers."""

from collections import Counter

import pytest

from evals.tasks import TASKS, Sample, find_task
from evals.tasks.countdown import TASK
from evals.tasks.countdown_rules import Problem
from evals.tasks.task import choose

PROBLEM = Problem((3, 8, 3, 18), 16, 4)
SAMPLE = Sample("x", [], 4, PROBLEM)


def ids(samples: list[Sample]) -> list[str]:
    return [sample.id for sample in samples]


def test_every_task_is_registered_under_its_name() -> None:
    assert find_task("countdown") is TASK
    assert all(find_task(name).name == name for name in TASKS)


def test_a_prompt_is_one_user_message_that_shows_the_problem() -> None:
    for sample in TASK.load(20, None, 0):
        (message,) = sample.prompt
        problem = sample.reference
        numbers = " ".join(f"{number:02d}" for number in problem.numbers)
        assert message == {"role": "user", "content": f"make {problem.target:02d} from {numbers}"}
        assert sample.level == problem.level


def test_ids_are_unique() -> None:
    samples = TASK.load(None, None, 0)
    assert len(set(ids(samples))) == len(samples) >= 100


def test_the_default_limit_is_balanced_over_all_levels() -> None:
    all_levels = {sample.level for sample in TASK.load(None, None, 0)}
    counts = Counter(sample.level for sample in TASK.load(TASK.defaults.limit, None, 0))
    assert set(counts) == all_levels
    assert counts.total() >= 100
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_seed_chooses() -> None:
    assert ids(TASK.load(40, None, 0)) == ids(TASK.load(40, None, 0))
    assert set(ids(TASK.load(40, None, 0))) != set(ids(TASK.load(40, None, 1)))


def test_a_smaller_limit_is_the_beginning_of_a_larger_one() -> None:
    assert ids(TASK.load(10, None, 3)) == ids(TASK.load(50, None, 3))[:10]


def test_levels_restrict_without_changing_the_choice_within_a_level() -> None:
    both = TASK.load(20, (4, 2), 0)
    assert Counter(sample.level for sample in both) == {2: 10, 4: 10}
    single = TASK.load(10, (2,), 0)
    assert ids(single) == [sample.id for sample in both if sample.level == 2]


def test_an_unknown_level_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="unknown level 9; choose from 1, 2, 3, 4"):
        TASK.load(10, (1, 9), 0)


def test_levels_of_different_sizes_are_used_up() -> None:
    samples = [Sample(str(index), [], 1 if index else 2, None) for index in range(5)]
    chosen = choose(samples, 4, None, 0)
    assert Counter(sample.level for sample in chosen) == {1: 3, 2: 1}
    assert len(choose(samples, 99, None, 0)) == 5


@pytest.mark.parametrize(
    ("text", "correct", "answer", "explanation"),
    [
        (" (18-08)+(03+03)\n", True, "(18-08)+(03+03)", "reaches the target"),
        ("18-08+03", False, "18-08+03", "uses [18, 8, 3], not the given [3, 8, 3, 18]"),
        ("18+8+3+3", False, "18+8+3+3", "equals 32, not 16"),
        ("18++8", False, "18++8", "expected a number"),
        ("1:18-08=10 (18-08)+(03+03)", False, None, "no answer"),
        ("", False, None, "no answer"),
    ],
)
def test_scores(text: str, correct: bool, answer: str | None, explanation: str) -> None:
    score = TASK.score(SAMPLE, text)
    assert (score.correct, score.answer) == (correct, answer)
    assert explanation in score.explanation


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("(18-8)+(3+3)", "3+3+18-8", True),  # the same value with the same numbers
        ("18-8", "8+2", True),  # both make 10 and neither uses the given numbers
        ("(18-8)+(3+3)", "8+8", False),  # the value, but with other numbers
        ("18+8+3+3", "(18-8)+(3+3)", False),
        ("1/3", "2/6", True),
        ("1/3", "33/99", True),
        ("1/3", "33/100", False),
    ],
)
def test_classes_of_equivalent_answers(first: str, second: str, is_same: bool) -> None:
    assert TASK.classes(SAMPLE, [first, None, second]) == [0, None, 0 if is_same else 2]


@pytest.mark.parametrize("answer", ["18++8", "4/0", "sixteen"])
def test_an_answer_without_a_value_has_no_vote(answer: str) -> None:
    assert TASK.classes(SAMPLE, [answer]) == [None]
