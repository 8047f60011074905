"""Every task from its data to its report, on the real runtime.

The bundled reasoner knows 36 characters, and its tokenizer leaves out all others: it reads a ruin
of these questions and cannot answer them. What is tested is everything around the answer.
"""

import json
from pathlib import Path
from typing import Any

import jsonlines
import pytest

from evals import run
from evals.tasks import TASKS

pytestmark = pytest.mark.integration

FIXTURES = Path(__file__).parents[1] / "evals" / "tasks" / "fixtures"
DATA = {path.stem: path for path in FIXTURES.iterdir()}
NUM_PROMPTS, MAX_SEQUENCES = 4, 3
SMALL = ("--limit", str(NUM_PROMPTS), "--max-sequences", str(MAX_SEQUENCES))
SHORT = ("--max-new-tokens", "24", "--chunk-tokens", "8", "--theta", "0.3")


def evaluated(server_url: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The summary of a finished run."""
    where = ("--server", server_url, "--output-dir", str(folder))
    assert run.main([*where, *SMALL, *SHORT, *arguments]) == 0
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    assert (folder / "report.html").stat().st_size > 10_000
    return content


def sequences_of(folder: Path) -> list[dict[str, Any]]:
    with jsonlines.open(folder / "results.jsonl") as lines:
        return [sequence for line in lines for sequence in line["sequences"]]


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("countdown")])
def test_a_benchmark_from_its_rows_to_its_report(
    server_url: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--task", name, "--dataset", str(DATA[name])]
    if name == "humaneval_plus":
        require_sandbox()
        arguments.append("--allow-code-execution")
    summary = evaluated(server_url, tmp_path, *arguments)
    assert summary["config"]["dataset"]["revision"]
    assert summary["config"]["plan"]["num_prompts"] == NUM_PROMPTS
    sequences = sequences_of(tmp_path)
    assert {sequence["status"] for sequence in sequences} == {"judged"}
    for row in summary["rows"]:
        judged = row["judged"]
        assert (judged is None) == row["estimated"]
        if judged is not None:
            assert judged["num_judged"] == row["num_sequences"] >= NUM_PROMPTS
            assert judged["num_unjudged"] == judged["num_timed_out"] == 0
        assert 0 <= row["pass_at_k"] <= 1
        assert (row["cons_at_k"] is None) == (name == "humaneval_plus")
    assert f"no preset for {summary['model']}" in capsys.readouterr().out


def require_sandbox() -> None:
    from evals.grading.programs import IsolationError, require_isolation

    try:
        require_isolation()
    except IsolationError as error:
        pytest.skip(str(error))


def test_user_prompts_with_answers(server_url: str, tmp_path: Path) -> None:
    summary = evaluated(server_url, tmp_path, "--task", str(DATA["own"]))
    assert summary["config"]["has_labels"]
    assert all(row["pass_at_k"] is not None for row in summary["rows"])


def test_user_prompts_without_answers(
    server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--methods", "parallel,eager_init,eager_adapt")
    summary = evaluated(server_url, tmp_path, "--task", str(DATA["own_unlabelled"]), *methods)
    assert [row["pass_at_k"] for row in summary["rows"]] == [None] * 3
    assert "There are no reference answers" in capsys.readouterr().out


def test_final_texts_are_what_is_judged(server_url: str, tmp_path: Path) -> None:
    long = ("--max-new-tokens", "200", "--methods", "parallel", "--task", "countdown")
    evaluated(server_url, tmp_path, *long)
    closed = [s for s in sequences_of(tmp_path) if "</think>" in s["text"]]
    assert closed
    for sequence in closed:
        assert sequence["answer"] == (sequence["text"].partition("</think>")[2].strip() or None)


def test_a_preset_of_another_model_runs_on_any_server(server_url: str, tmp_path: Path) -> None:
    """Its chat options reach the server's template, which ignores them."""
    named = ("--preset", "qwen3-4b", "--task", "gsm8k", "--dataset", str(DATA["gsm8k"]))
    summary = evaluated(server_url, tmp_path, *named, "--methods", "eager_init")
    assert summary["config"]["preset"]["name"] == "qwen3-4b"
    assert summary["config"]["chat_options"] == {"chat_template_kwargs": {"enable_thinking": True}}
