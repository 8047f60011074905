"""Judges that fail, what is counted, runs without labels, and the paper's rows."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from evals import run
from evals.analysis.judged import classes_of, count_judged, judge
from evals.grading.score import Status
from evals.records.record import PromptRecord
from evals.report.summarise import summarise_run
from evals.report.summary import Summary, summary_json
from evals.report.table import render_table
from evals.tasks import TASKS, Sample, Task, find_task
from tests.evals.fakes.build import record
from tests.evals.fakes.sample_run import header, plan, run_records
from tests.evals.fakes.scripted_run import lines

FIXTURES = Path(__file__).parents[1] / "tasks" / "fixtures"
SAMPLE = Sample("a", [], None, "4")


class Broken:
    """A task whose judge always fails."""

    def score(self, sample: Sample, text: str) -> Any:
        raise RecursionError("too deep")

    def classes(self, sample: Sample, answers: Any) -> Any:
        raise ValueError("no classes")


def broken() -> Task:
    return Broken()  # type: ignore[return-value]


def test_a_judge_that_fails_leaves_a_score_that_says_so() -> None:
    score = judge(broken(), SAMPLE, "4")
    assert (score.correct, score.answer, score.status) == (False, None, "unjudged")
    assert "RecursionError('too deep')" in score.explanation


def test_where_classes_fail_equal_texts_vote_together() -> None:
    assert classes_of(broken(), SAMPLE, ["4", None, "04", "4"]) == [0, None, 2, 0]


def with_statuses(*statuses: Status, finish_reason: Any = "stop") -> PromptRecord:
    prompt = record([False] * len(statuses), method="eager_init")
    sequences = tuple(
        replace(sequence, status=status, finish_reason=finish_reason)
        for sequence, status in zip(prompt.sequences, statuses, strict=True)
    )
    return replace(prompt, sequences=sequences)


def test_what_became_of_sequences_is_counted() -> None:
    cut = with_statuses("judged", "judged", finish_reason="length")
    loop = replace(cut.sequences[0], token_ids=(1, *[7, 8] * 20))
    cut = replace(cut, sequences=(loop, cut.sequences[1]))
    whole = with_statuses("judged", "timed_out", "unjudged", "unjudged")
    ended = replace(whole.sequences[1], token_ids=loop.token_ids)  # a loop, but not cut in it
    whole = replace(whole, sequences=(whole.sequences[0], ended, *whole.sequences[2:]))
    counts = count_judged([whole, cut])
    assert asdict(counts) == {
        "num_judged": 3,
        "num_unjudged": 2,
        "num_timed_out": 1,
        "num_truncated": 2,
        "num_repetition": 1,
    }


def spoiled(*, method: str = "eager_init", **swept: Any) -> Summary:
    """A run in which one sequence of a method was not judged and another one was cut."""
    a_plan = plan(**swept)
    records = run_records(a_plan)
    index = next(i for i, r in enumerate(records) if r.method == method and len(r.sequences) > 1)
    first, second, *rest = records[index].sequences
    records[index] = replace(
        records[index],
        sequences=(
            replace(first, status="unjudged", correct=False),
            replace(second, finish_reason="length"),
            *rest,
        ),
    )
    return summarise_run(header(a_plan), records, a_plan, {})


def test_the_table_shows_what_went_wrong() -> None:
    table = render_table(spoiled())
    (line,) = [line for line in table.splitlines() if line.startswith("sequences not judged")]
    assert line.split()[3:] == ["0", "1", "0", "0"]
    assert "cut at the length limit" in table
    assert "judging timed out" not in table


def test_a_table_of_blocks_has_it_in_a_sentence() -> None:
    table = " ".join(render_table(spoiled(thresholds=(0.7, 0.9))).split())
    assert "sequences not judged: 1, cut at the length limit: 1." in table


def test_a_run_without_trouble_says_nothing_of_it() -> None:
    a_plan = plan()
    table = render_table(summarise_run(header(a_plan), run_records(a_plan), a_plan, {}))
    for text in ("not judged", "timed out", "the paper"):
        assert text not in table


def test_an_estimated_row_has_no_counts() -> None:
    rows = summary_json(spoiled(max_sequences=(2, 4)))["rows"]
    assert {row["estimated"] for row in rows} == {True, False}
    assert all((row["judged"] is None) == row["estimated"] for row in rows)


def unlabelled() -> Summary:
    a_plan = plan(methods=("parallel", "eager_init"), max_sequences=(2, 4), can_vote=False)
    return summarise_run(header(a_plan, has_labels=False), run_records(a_plan), a_plan, {})


def test_without_labels_figures_are_absent_not_zero() -> None:
    content = summary_json(unlabelled())
    names = ("pass_at_k", "pass_rate", "cons_at_k", "matched_parallel_pass_at_k")
    assert content["entropy_pass_rate"] is None
    assert content["findings"] == []
    for row in content["rows"]:
        assert [row[name] for name in names] == [None] * 4
        assert row["tokens_generated"] > 0
        assert all(level["pass_at_k"] is level["pass_rate"] is None for level in row["levels"])
    table = render_table(unlabelled())
    assert "There are no reference answers" in table
    assert "0.000" not in table


@pytest.mark.usefixtures("scripted")
def test_a_run_without_labels_is_reported_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    arguments = ["--task", str(FIXTURES / "own_unlabelled.jsonl"), "--output-dir", str(folder)]
    arguments += ["--methods", "parallel,eager_init,eager_adapt"]
    assert run.main(arguments) == 0
    assert "Pass@k –" in capsys.readouterr().out
    assert {s["status"] for line in lines(folder) for s in line["sequences"]} == {"unjudged"}
    summary = json.loads((folder / "summary.json").read_text())
    assert all(row["pass_at_k"] is None for row in summary["rows"])
    assert all(row["judged"]["num_judged"] == 0 for row in summary["rows"] if row["judged"])
    assert (folder / "report.html").exists()
    (folder / "summary.json").unlink()
    assert run.main(["--report-only", "--output-dir", str(folder)]) == 0
    assert json.loads((folder / "summary.json").read_text()) == summary


def test_a_method_that_needs_labels_is_refused_without(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        run.main(["--task", str(FIXTURES / "own_unlabelled.jsonl"), "--output-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert "eager needs reference answers, and " in error
    assert error.endswith("has none; give --methods parallel,eager_init,eager_adapt\n")


def test_code_is_run_only_where_it_is_allowed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fixture = str(FIXTURES / "humaneval_plus.jsonl")
    arguments = ["--task", "humaneval_plus", "--dataset", fixture, "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 2
    assert capsys.readouterr().err == (
        "error: judging humaneval_plus runs programs that the model wrote, in a sandbox; allow it "
        "with --allow-code-execution\n"
    )


def test_where_code_cannot_be_isolated_the_run_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evals.grading import programs

    def refuse() -> None:
        raise programs.IsolationError("bubblewrap is not installed")

    monkeypatch.setattr(programs, "require_isolation", refuse)
    fixture = str(FIXTURES / "humaneval_plus.jsonl")
    arguments = ["--task", "humaneval_plus", "--dataset", fixture, "--output-dir", str(tmp_path)]
    assert run.main([*arguments, "--allow-code-execution"]) == 2
    assert capsys.readouterr().err == "error: bubblewrap is not installed\n"


def test_labels_and_votes_of_the_tasks() -> None:
    for name in TASKS:
        task = find_task(name)
        assert task.has_labels
        assert task.can_vote == (name != "humaneval_plus")
        assert task.needs_isolation == (name == "humaneval_plus")
