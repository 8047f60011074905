"""`--record`: the values of every token are in the line of their prompt, or in none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import FullParallel, PromptResult
from eager_sgl.errors import AuthenticationError, ServerUnsuitableError
from eager_sgl.plugin.vocabulary import COLUMNS
from evals import run
from evals.config import parse_settings
from evals.execution import calls
from evals.execution.calls import Call
from evals.execution.methods import METHODS
from evals.records.columns import RECORDED, unpack_columns
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import (
    Generate,
    Scripted,
    ScriptedClient,
    in_thread,
    lines,
    server,
)

SMALL = ("--methods", "parallel", "--limit", "4", "--max-sequences", "3", "--concurrency", "1")


def recorded(call: Call) -> PromptResult:
    """Three tokens in each sequence; their values are those of the columns that were asked for."""
    assert isinstance(call.method, FullParallel)
    assert call.method.columns == COLUMNS
    call.account.commit(3)
    given = result(["</think>01+01"] * 3, max_sequences=3)
    values: dict[str, Any] = {"confidences": (1.0, 2.0, 3.0), "entropies": (0.5, 0.25, 0.0)}
    sequences = (replace(s, parent=None, branch=None, **values) for s in given.sequences)
    return replace(given, sequences=tuple(sequences))


def use(scripted: Scripted, monkeypatch: pytest.MonkeyPatch, generate: Generate) -> None:
    """Full Parallel generates by a function of the test."""
    scripted(generate)
    monkeypatch.setitem(calls.FIRST_STAGES, "parallel", in_thread(generate))


def test_a_recorded_line_has_the_values_of_every_token(
    tmp_path: Path, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(scripted, monkeypatch, recorded)
    assert run.main([*SMALL, "--record", "--output-dir", str(tmp_path)]) == 0
    for line in lines(tmp_path):
        for sequence in line["sequences"]:
            columns = unpack_columns(sequence["columns"], 3)
            assert columns.confidences.tolist() == [1, 2, 3]
            assert columns.entropies.tolist() == [0.5, 0.25, 0]
    header = json.loads((tmp_path / "config.json").read_text())
    assert header["config"]["columns"] == list(RECORDED)


def test_a_recorded_run_continues_as_one(
    tmp_path: Path,
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    num_begun = 0

    def breaks(call: Call) -> PromptResult:
        nonlocal num_begun
        num_begun += 1
        if num_begun == 3:
            raise AuthenticationError("stopped")
        return recorded(call)

    use(scripted, monkeypatch, breaks)
    command = [*SMALL, "--output-dir", str(tmp_path)]
    assert run.main([*command, "--record"]) == 1
    before = (tmp_path / "results.jsonl").read_text()
    assert before.count("\n") == 2
    capsys.readouterr()
    assert run.main(command) == 2
    assert "another configuration: columns" in capsys.readouterr().err
    # A line that was being written when the process died.
    (tmp_path / "results.jsonl").write_text(before + before[:200])
    assert run.main([*command, "--record"]) == 0
    assert (tmp_path / "results.jsonl").read_text().startswith(before)
    assert len(lines(tmp_path)) == 4
    assert all(s["columns"] for line in lines(tmp_path) for s in line["sequences"])


def test_without_the_option_nothing_is_asked_for(tmp_path: Path, scripted: Scripted) -> None:
    assert run.main([*SMALL, "--output-dir", str(tmp_path)]) == 0
    assert all(s["columns"] is None for line in lines(tmp_path) for s in line["sequences"])
    assert json.loads((tmp_path / "config.json").read_text())["config"]["columns"] is None


def test_only_parallel_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--record", "--methods", "parallel,vote"], METHODS)
    said = capsys.readouterr().err
    assert said == (
        "error: --record keeps the tokens' values of parallel, and --methods has vote; give "
        "--methods parallel\n"
    )


def test_a_server_without_the_plugin_is_refused_at_once(
    tmp_path: Path, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithoutPlugin(ScriptedClient):
        def gate(self, method: Any) -> None:
            if method.requires_gate:
                raise ServerUnsuitableError("the server has no gate: it has no plugin")

    scripted(recorded, on=server(WithoutPlugin()))
    assert run.main([*SMALL, "--record", "--output-dir", str(tmp_path)]) == 1
    assert "the server has no gate: it has no plugin" in capsys.readouterr().err
    assert lines(tmp_path) == []
