"""`--stop`: the rules, the judgements that they use, and one rule for every prompt of a run."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import BestFirst, EagerInit, Ledger, Method, SearchConfig
from eager_sgl.core import PromptResult
from eager_sgl.search.priorities import EarlyPeaks, find_priority
from eager_sgl.search.stopping import Consensus, Solved, Unexplored
from evals import run
from evals.analysis.judged import Verdicts
from evals.config.settings import Settings
from evals.config.stopping import StopOption, read_stop
from evals.execution import calls
from evals.execution.calls import Call
from evals.grading.score import Score
from evals.tasks import Sample, find_task
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, lines

COUNTDOWN = find_task("countdown")
NO_TREE: Any = None


class CountingTask:
    """Judges by the last character, and records the texts."""

    can_vote = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, sample: Sample, text: str) -> Score:
        self.asked.append(text)
        return Score(text[-1:] == sample.reference, text[-1:], "by its end")

    def classes(self, sample: Sample, answers: Any) -> list[int | None]:
        return [None if answer is None else answers.index(answer) for answer in answers]


def verdicts_on(task: Any) -> Verdicts:
    return Verdicts(task, Sample("a", [], None, "7"))


def test_every_text_is_judged_once() -> None:
    task = CountingTask()
    verdicts = verdicts_on(task)
    sequences = result(["x7", "y8", "x7"]).sequences
    assert verdicts.classes(sequences) == [0, 1, 0]
    assert [verdicts.is_correct(sequence) for sequence in sequences] == [True, False, True]
    assert task.asked == ["x7", "y8"]


def test_a_verifier_takes_precedence_over_the_labels() -> None:
    sample, task = Sample("a", [], None, "7"), CountingTask()
    sequences = result(["1", "</think>7"]).sequences
    labels = StopOption("verifier").rule(sample, verdicts_on(task), None)
    assert isinstance(labels, Solved)
    assert [labels(NO_TREE, sequences[:1]), labels(NO_TREE, sequences)] == [False, True]
    seen = []

    def verifier(given: Sample, text: str) -> bool:
        seen.append((given, text))
        return text == "1"

    stop_rule = StopOption("verifier").rule(sample, verdicts_on(task), verifier)
    assert stop_rule(NO_TREE, sequences)
    assert seen == [(sample, "1")]


def test_a_consensus_counts_the_classes_of_the_task() -> None:
    rule = StopOption("consensus").rule(SAMPLE, verdicts_on(CountingTask()), None)
    assert isinstance(rule, Consensus)
    assert not rule(NO_TREE, result(["a1", "b1", "c1"]).sequences)
    assert rule(NO_TREE, result(["a1", "b1", "c1", "d1"]).sequences)


SAMPLE = Sample("a", [], None, "7")


@pytest.mark.parametrize(
    ("text", "text_of_option", "below"),
    [("unexplored", "unexplored:0.5", 0.5), ("unexplored:0.2", "unexplored:0.2", 0.2)],
)
def test_the_share_is_that_of_the_command_line(
    text: str, text_of_option: str, below: float
) -> None:
    option = read_stop(text, COUNTDOWN, has_verifier=False)
    assert option is not None
    assert str(option) == text_of_option
    assert option.rule(SAMPLE, verdicts_on(CountingTask()), None) == Unexplored(below)


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("never", "countdown", "--stop is 'never'; choose from none, consensus"),
        ("consensus:2", "countdown", "--stop is 'consensus:2'; choose from"),
        ("unexplored:1", "countdown", "unexplored:1; the share must be a number in"),
        ("unexplored:", "countdown", "unexplored:; the share must be a number in"),
        ("unexplored:x", "countdown", "unexplored:x; the share must be a number in"),
        ("consensus", "humaneval_plus", "the answers of humaneval_plus cannot agree"),
    ],
)
def test_an_invalid_rule_is_named(text: str, task: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_stop(text, find_task(task), has_verifier=False)


def test_without_labels_a_verifier_has_to_be_given(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "a", "prompt": "make"}\n')
    task = find_task(str(path))
    with pytest.raises(ValueError, match="has no labels, give a --verifier"):
        read_stop("verifier", task, has_verifier=False)
    assert read_stop("verifier", task, has_verifier=True) == StopOption("verifier")


def test_the_client_gets_the_rule_and_the_budget_of_a_search() -> None:
    asked: dict[str, Any] = {}

    class Client:
        async def generate(self, prompt: object, method: Method, **given: Any) -> PromptResult:
            asked.update(given, method=method)
            return result(["1"])

    with Ledger(3).reserve(3) as account:
        call = Call(
            client=Client(),  # type: ignore[arg-type]
            sample=SAMPLE,
            method=BestFirst(SearchConfig()),
            account=account,
            on_progress=lambda counts, alive: None,
        )

        async def generate() -> PromptResult:
            return await calls.FIRST_STAGES["best_first"](call)

        asyncio.run(generate())
    wanted = {"account": account, "method": call.method}
    assert asked.items() >= wanted.items()


def settings_of(*arguments: str) -> Settings:
    return run.parse_settings(["--methods", "best_first", *arguments], run.METHODS)


def test_the_rule_is_a_part_of_the_run() -> None:
    assert settings_of().stored().search.stop is None
    assert settings_of("--stop", "none").stored() == settings_of().stored()
    stored = settings_of("--stop", "unexplored").stored().search.stop
    assert stored == "unexplored:0.5"


def test_a_priority_may_lie_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_values.py").write_text(
        "from eager_sgl.search.priorities import EarlyPeaks as Own\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    chosen: object = find_priority(settings_of("--priority", "own_values:Own").experiment.priority)
    assert chosen is EarlyPeaks


def test_only_searches_are_stopped_and_every_prompt_has_its_rule(
    tmp_path: Path, scripted: Scripted
) -> None:
    rules: dict[tuple[type, str], Any] = {}

    def generate(call: Call) -> PromptResult:
        stop = getattr(call.method, "stop", None)
        rules[type(call.method), call.sample.id] = stop
        sequences = result(["</think>01+01"]).sequences
        assert stop is None or not stop(NO_TREE, sequences), "a wrong sum"
        call.account.commit(1)
        return result(["</think>01+01"], max_sequences=call.method.max_sequences)

    scripted(generate)
    arguments = ["--methods", "eager_init,best_first,swor", "--limit", "3", "--stop", "verifier"]
    assert run.main([*arguments, "--output-dir", str(tmp_path)]) == 0
    assert {method for (method, _), rule in rules.items() if rule is None} == {EagerInit}
    given = [id(rule) for rule in rules.values() if rule is not None]
    assert len(set(given)) == len(given) == 6
    assert len(lines(tmp_path)) == 9
    notes = " ".join(json.loads((tmp_path / "summary.json").read_text())["notes"])
    assert "Searches were ended early (verifier)" in notes
