"""Tasks of reasoning-gym: names, questions, the answer that is read, credit, classes for votes."""

from __future__ import annotations

import inspect
import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from eager_sgl.core import PromptResult
from evals import run
from evals.execution.calls import Call
from evals.grading.workers import shared_pool
from evals.tasks import Sample, find_task
from evals.tasks.gym import GymTask, scorer, source, task
from evals.tasks.gym.answers import ask, find_answer
from evals.tasks.gym.generator import questions_of
from evals.tasks.gym.plain import EXPRESSIONS, LISTS, is_plain
from evals.tasks.gym.selection import Selection, read_selection
from evals.tasks.gym.source import Question, questions
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, lines

needs_library = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs reasoning-gym")
NAMES = (
    "aiw",
    "base_conversion",
    "basic_arithmetic",
    "chain_sum",
    "coin_flip",
    "countdown",
    "family_relationships",
    "gsm_symbolic",
    "knights_knaves",
    "letter_counting",
    "number_sorting",
    "polynomial_multiplication",
    "prime_factorization",
    "simple_equations",
    "spell_backward",
    "syllogism",
    "zebra_puzzles",
)
LIMIT_SECONDS = 120.0


@pytest.fixture
def in_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions come from a judge's worker, which has the library loaded already."""

    def from_worker(selection: Selection) -> tuple[Question, ...]:
        wanted = selection.name, dict(selection.parameters), selection.seed, selection.size
        pool = shared_pool("evals.tasks.gym.library")
        return tuple(
            Question(*question)
            for question in pool.call(questions_of, *wanted, limit=LIMIT_SECONDS)
        )

    monkeypatch.setattr(task, "questions", from_worker)


def loaded(name: str) -> tuple[GymTask, list[Sample]]:
    found = GymTask.read(f"reasoning_gym:{name}")
    return found, found.load(None, None, 0)


def tagged(answer: str) -> str:
    return f"Some steps. <answer>{answer}</answer>"


# Names


def test_a_name_holds_size_seed_and_parameters() -> None:
    read = read_selection("reasoning_gym:chain_sum?max_terms=4&size=7&operators=+,-&seed=3")
    assert (read.name, read.size, read.seed) == ("chain_sum", 7, 3)
    assert read.parameters == {"max_terms": "4", "operators": "+,-"}


@pytest.mark.parametrize(
    "name",
    ["reasoning_gym:aiw", "reasoning_gym:b?z=1&a=2", "reasoning_gym:b?seed=0&size=100&q=a%26b"],
)
def test_the_name_of_a_selection_does_not_depend_on_the_order_of_its_parameters(name: str) -> None:
    selection = read_selection(name)
    head, _, query = str(selection).partition("?")
    assert query == "&".join(sorted(query.split("&")))
    assert read_selection(f"{head}?{'&'.join(reversed(query.split('&')))}") == selection


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reasoning_gym:", "names no data set"),
        ("reasoning_gym:aiw?size", "holds 'size'; parameters are name=value"),
        ("reasoning_gym:aiw?size=1&size=2", "holds 'size=2'"),
        ("reasoning_gym:aiw?size=0", "size of task 'reasoning_gym:aiw?size=0' is 0; it must be"),
        ("reasoning_gym:aiw?seed=-1", "is -1; it must be a whole number from 0 to"),
    ],
)
def test_a_name_of_another_form_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="task") as caught:
        read_selection(name)
    assert message in str(caught.value)


# Answers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>42</answer>", "42"),
        ("<answer>1</answer> no: <answer> 2 </answer>.", "2"),
        ("<answer>\n1 2\n3 4\n</answer>", "1 2\n3 4"),
        ("<answer>42", "42"),
        ("<Answer>42</ANSWER>", "42"),
        ("The tags <answer></answer> hold it: <answer>7</answer><answer></answer>", "7"),
        ("<answer>\\boxed{42}</answer>", "42"),
        ("<answer>**42**</answer>", "42"),
        ("<answer>$42$</answer>", "42"),
        ('<answer>```json\n["a"]\n```</answer>', '["a"]'),
        ("So it is \\boxed{42}.", "42"),
        ("\\boxed{1} <answer>2</answer>", "2"),
        ("<answer>1</answer> Step 2: so it is \\boxed{2}.", "2"),
        ("<answer>1</answer> Step 2: \\boxed{2} <answer>3</answer>", "3"),
        ("<answer>1</answer> and <answer>\\boxed{2}", "2"),
        ("<answer>2 * 3 * 4</answer>", "2 * 3 * 4"),
        ("It is 42.", None),
        ("<answer></answer>", None),
        ("", None),
    ],
)
def test_the_answer_is_in_the_last_tags_or_the_last_box(text: str, answer: str | None) -> None:
    assert find_answer(text) == answer


def test_the_question_comes_first() -> None:
    assert ask(" How many?\n").startswith("How many?\n\n")
    assert "<answer>" in ask("How many?")


# Answers that the library evaluates


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("countdown", "12*1*(21 + 37) + 41"),
        ("simple_integration", "9*x**8/7 - sin(x) + C"),
        ("n_queens", "[['Q', '_']]"),
        ("n_queens", "_ Q _\nQ _ _"),
        ("string_insertion", "ABCD"),
        ("chain_sum", "__import__('os')"),  # its scorer evaluates nothing
    ],
)
def test_plain_answers_pass(name: str, answer: str) -> None:
    assert is_plain(name, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "open('x')",
        "x.__class__",
        "[c for c in 'ab']",
        "exec('1')",
        "sin('__import__(1)')()",
        "print(1)",
        "1 if x else 2",
        "f'{print(1)}'",
    ],
)
def test_code_does_not_pass(answer: str) -> None:
    assert not any(is_plain(name, answer) for name in EXPRESSIONS | LISTS)


def test_an_expression_has_no_texts() -> None:
    assert not is_plain("countdown", "sin('1')")
    assert not is_plain("countdown", "5!")


@needs_library
def test_every_scorer_that_evaluates_answers_is_listed() -> None:
    from reasoning_gym.factory import DATASETS

    from evals.tasks.gym.library import names

    evaluating = {
        name
        for name in names()
        if any(
            call in inspect.getsource(DATASETS[name][0].score_answer)
            for call in ("eval(", "parse_expr(", "exec(", "sympify(")
        )
    }
    # It evaluates the reference answer alone.
    assert evaluating == EXPRESSIONS | LISTS | {"number_sorting"}


# Questions


@needs_library
@pytest.mark.usefixtures("in_worker")
@pytest.mark.parametrize("name", NAMES)
def test_right_answers_get_full_credit_and_others_do_not(name: str) -> None:
    found, samples = loaded(f"{name}?size=6")
    assert len({sample.id for sample in samples}) == 6
    for sample, other in pairwise(samples):
        own, wrong = sample.reference.answer, other.reference.answer
        right = found.score(sample, tagged(own))
        assert (right.correct, right.answer, right.status) == (True, own.strip(), "judged")
        if wrong != own:
            assert not found.score(sample, tagged(wrong)).correct
        assert found.score(sample, "I do not know.").answer is None


@needs_library
@pytest.mark.usefixtures("in_worker")
@pytest.mark.parametrize("name", NAMES)
def test_answers_of_other_questions_are_other_classes(name: str) -> None:
    found, samples = loaded(f"{name}?size=6")
    answers = [sample.reference.answer for sample in samples]
    classes = found.classes(samples[0], [*answers, None, *answers])
    firsts = [answers.index(answer) for answer in answers]
    assert classes == [*firsts, None, *firsts]


@needs_library
@pytest.mark.usefixtures("in_worker")
@pytest.mark.parametrize(
    ("name", "answers", "classes"),
    [
        ("chain_sum", ["5", "05", "5.0", "6", "+5"], [0, 0, 0, 3, 0]),
        ("gsm_symbolic", ["5 apples", "5", "5.0", "7"], [0, 0, 0, 3]),
        ("spell_backward", ["abc", "ABC", "abd"], [0, 0, 2]),
        ("countdown", ["2*3 + 4", "4 + 3*2", "2*(3 + 4)", "six", None], [0, 0, 2, 3, None]),
        ("puzzle24", ["1*2*3*4", "4*3*2*1", "4 + 4 + 8 + 8"], [0, 0, 2]),
        ("complex_arithmetic", ["1 + 2i", "1  +  2i", "2 + 1i"], [0, 0, 2]),
        ("polynomial_multiplication", ["x + 2*x**2", "2*x**2 + x", "x"], [0, 0, 2]),
        (
            "knights_knaves",
            ["A is a knight, and B is a knave", "B is a knave, A is a knight", "A is a knave"],
            [0, 0, 2],
        ),
    ],
)
def test_equal_answers_are_one_class(
    name: str, answers: list[str | None], classes: list[int | None]
) -> None:
    found, samples = loaded(f"{name}?size=1")
    assert found.classes(samples[0], answers) == classes


@needs_library
@pytest.mark.usefixtures("in_worker")
def test_seeds_share_no_question_if_one_is_even_and_one_odd() -> None:
    texts = [
        {
            sample.prompt[0]["content"]
            for sample in loaded(f"spell_backward?size=200&seed={seed}")[1]
        }
        for seed in (0, 1, 2)
    ]
    assert [len(found) for found in texts] == [200, 200, 200]
    assert not texts[0] & texts[1]
    assert not texts[1] & texts[2]
    assert texts[0] != texts[2]


@needs_library
@pytest.mark.usefixtures("in_worker")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("no_such_name", "has no data set 'no_such_name'; choose from ab, acre, "),
        ("composite", "has no data set 'composite'; choose from ab, acre, "),
        ("chain_sum?terms=3", "has no parameter 'terms'; choose from size, seed, min_terms, "),
        ("chain_sum?max_terms=x", "max_terms of chain_sum is 'x'; it must be a whole number"),
        ("chain_sum?max_terms=true", "max_terms of chain_sum is 'true'; it must be a whole number"),
        ("chain_sum?max_terms=1", "reasoning-gym refuses {'max_terms': 1} for chain_sum: "),
        ("coin_flip?size=400&min_trials=3&max_trials=3", "hardly more than"),
    ],
)
def test_wrong_names_and_parameters_are_refused_with_what_there_is(
    query: str, message: str
) -> None:
    selection = read_selection(f"reasoning_gym:{query}")
    wanted = selection.name, dict(selection.parameters), selection.seed, selection.size
    pool = shared_pool("evals.tasks.gym.library")
    assert message in pool.call(problem_of, *wanted, limit=LIMIT_SECONDS)


def problem_of(name: str, parameters: dict[str, str], seed: int, size: int) -> str:
    """The message of a refusal, from a worker, which reports the type of an error alone."""
    try:
        questions_of(name, parameters, seed, size)
    except ValueError as error:
        return str(error)
    return "not refused"


@needs_library
@pytest.mark.usefixtures("in_worker")
def test_parameters_change_the_questions() -> None:
    for name, operators in (("+", "+"), ("-,*", "-*")):
        _, samples = loaded(f"countdown?size=5&min_numbers=3&max_numbers=3&operators={name}")
        for sample in samples:
            assert set(sample.reference.answer) & set("+-*/") <= set(operators)


@needs_library
def test_the_questions_are_those_of_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some generators follow the order of sets of texts, which differs between processes."""
    selection = read_selection("reasoning_gym:isomorphic_strings?size=5&seed=2")
    found = []
    for hash_seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        source._generated.cache_clear()
        found.append(questions(selection))
    assert found[0] == found[1]
    assert len(found[0]) == 5


# Judging


@needs_library
@pytest.mark.usefixtures("in_worker")
def test_no_code_of_the_model_runs(tmp_path: Path) -> None:
    found, (sample,) = loaded("countdown?size=1")
    mark = tmp_path / "ran"
    score = found.score(sample, tagged(f"__import__('pathlib').Path('{mark}').touch()"))
    assert not score.correct
    assert not mark.exists()


@needs_library
@pytest.mark.usefixtures("in_worker")
def test_an_answer_that_takes_forever_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found, (sample,) = loaded("countdown?size=1")
    monkeypatch.setattr(scorer, "LIMIT_SECONDS", 2.0)
    assert found.score(sample, tagged("9**9**9**9")).status == "timed_out"


@needs_library
@pytest.mark.usefixtures("in_worker")
def test_partial_credit_is_not_right() -> None:
    found, (sample,) = loaded("letter_counting?size=1")
    score = found.score(sample, tagged(f"{sample.reference.answer} times"))
    assert not score.correct
    assert score.explanation == "credit 0.14 of 1"


@needs_library
def test_a_task_is_found_by_its_name() -> None:
    found = find_task("reasoning_gym:chain_sum?size=3")
    assert find_task(found.name).name == found.name == "reasoning_gym:chain_sum?seed=0&size=3"
    assert (found.can_vote, found.has_labels, found.needs_isolation) == (True, True, False)
    with pytest.raises(ValueError, match="--dataset is copy.jsonl"):
        find_task("reasoning_gym:chain_sum", Path("copy.jsonl"))


def test_without_the_library_the_command_to_install_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evals.tasks.gym.source.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[gym\]'"):
        find_task("reasoning_gym:chain_sum")


@needs_library
@pytest.mark.usefixtures("in_worker")
def test_a_run_is_continued_and_judged_again(tmp_path: Path, scripted: Scripted) -> None:
    """The task comes back from the name in `config.json`, with the same questions."""

    def generate(call: Call) -> PromptResult:
        right = call.sample.reference.answer
        texts = [tagged(f"the word is {right}"), tagged(right), tagged(right)]
        call.account.commit(len(texts))
        return result([f"</think>{text}" for text in texts])

    scripted(generate)
    command = ["--task", "reasoning_gym:letter_counting?size=3", "--methods", "parallel"]
    command += ["--max-sequences", "3", "--output-dir", str(tmp_path)]
    assert run.main(command) == 0
    assert run.main(command) == 0
    assert run.main(["--output-dir", str(tmp_path), "--regrade"]) == 0
    for line in lines(tmp_path):
        judged = [(sequence["correct"], sequence["vote"]) for sequence in line["sequences"]]
        assert judged == [(False, 0), (True, 1), (True, 1)]
    (row,) = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert (row["pass_rate"], row["cons_at_k"]) == (pytest.approx(2 / 3), 1.0)
