"""A stopped run is continued: nothing lost, nothing doubled, nothing mixed."""

import fcntl
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eager_sgl.core import PromptResult, TokenCounts
from eager_sgl.errors import AuthenticationError
from evals import compare, run
from evals.execution import evaluation
from evals.execution.calls import Call
from evals.records import lock
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, generate_all, key_of, lines

EAGER = "eager_init,eager_adapt,eager"
SMALL = ("--methods", EAGER, "--limit", "6", "--max-sequences", "4", "--concurrency", "2")


class Counting:
    """As many sequences as the prompt's name says, none solved; stops the run from the n-th on."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.stops_at, self.num_begun = stops_at, 0

    def __call__(self, call: Call) -> PromptResult:
        self.num_begun += 1
        if self.stops_at is not None and self.num_begun >= self.stops_at:
            raise AuthenticationError("stopped")
        num_sequences = min(sum(call.sample.id.encode()) % 5 + 1, call.account.granted)
        call.account.commit(num_sequences)
        return result(["no answer"] * num_sequences, max_sequences=call.method.max_sequences)


def result_of(line: dict[str, Any]) -> tuple[Any, ...]:
    return len(line["sequences"]), line["stage_two"], line["counts"]


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_a_run_that_stops_again_and_again_ends_as_one_that_never_did(
    tmp_path: Path, scripted: Scripted, stride: int
) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    scripted(Counting())
    assert run.main([*SMALL, "--output-dir", str(whole)]) == 0
    num_sessions, code = 0, 1
    while code != 0:
        scripted(Counting(stops_at=1 + stride))
        before = (pieces / "results.jsonl").read_text() if num_sessions else ""
        code = run.main([*SMALL, "--output-dir", str(pieces)])
        assert (pieces / "results.jsonl").read_text().startswith(before)
        num_sessions += 1
        assert num_sessions < 60
    assert num_sessions > 2
    expected = {key_of(line): result_of(line) for line in lines(whole)}
    by_key = {key_of(line): result_of(line) for line in lines(pieces)}
    assert by_key == expected
    assert len(lines(pieces)) == len(by_key)
    rows, others = (
        json.loads((path / "summary.json").read_text())["rows"] for path in (whole, pieces)
    )
    for row in (*rows, *others):
        row.pop("wall_seconds")
    assert rows == others


def test_a_finished_run_only_prints(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scripted: Scripted,
) -> None:
    arguments = [*SMALL, "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    table = capsys.readouterr().out[-500:]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.is_file()}

    def refuse(*arguments: object) -> None:
        raise AssertionError("a server was asked for")

    monkeypatch.setattr(evaluation, "hosted", refuse)
    assert run.main(arguments) == 0
    assert capsys.readouterr().out[-500:] == table
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.is_file()}
    for name in ("summary.json", "report.html"):  # killed before one of them was written
        (tmp_path / name).unlink()
        assert run.main(arguments) == 0
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("damage", ["", "{broken"])
def test_what_a_finished_run_generates_again_is_in_its_summary_and_page(
    tmp_path: Path, scripted: Scripted, damage: str
) -> None:
    arguments = ["--methods", "parallel", "--limit", "6", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    results, page = tmp_path / "results.jsonl", (tmp_path / "report.html").read_bytes()
    whole = results.read_text().splitlines()
    results.write_text("\n".join([*whole[1:], *filter(None, [damage])]) + "\n")
    scripted(lambda call: replace(generate_all(call), counts=TokenCounts(generated=900)))
    assert run.main(arguments) == 0
    (row,) = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert row["tokens_generated"] == sum(line["counts"]["generated"] for line in lines(tmp_path))
    assert row["tokens_generated"] > 900
    assert (tmp_path / "report.html").read_bytes() != page


@pytest.mark.usefixtures("scripted")
def test_another_configuration_is_refused_field_by_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*SMALL, "--output-dir", str(tmp_path)]) == 0
    before = (tmp_path / "results.jsonl").read_bytes()
    capsys.readouterr()
    changed = [
        "--methods",
        EAGER,
        "--limit",
        "7",
        "--max-sequences",
        "4,8",
        "--top-k",
        "10",
        "--stage-two",
        "resume",
    ]
    assert run.main([*changed, "--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} holds a run with another configuration: ")
    assert error.count("\n") == 1
    for change in (
        *("max_sequences 4 → 4,8", "limit 6 → 7", "eager.top_k 20 → 10"),
        *("stage_twos restart → resume", "num_prompts 6 → 7"),
    ):
        assert change in error
    assert "concurrency" not in error
    assert (tmp_path / "results.jsonl").read_bytes() == before


@pytest.mark.usefixtures("scripted")
def test_parallel_alone_is_run_at_a_control_temperature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--methods", "parallel,eager_init,swor", "--limit", "3", "--max-sequences", "8"]
    options += ["--output-dir", str(tmp_path)]
    arguments = [*options, "--control-temperatures", "1.0,0.3"]
    assert run.main(arguments) == 0
    table = capsys.readouterr().out
    cells = [(line["method"], line["temperature"]) for line in lines(tmp_path)]
    kinds = [("parallel", 0.6), ("eager_init", 0.6), ("swor", 0.6)]
    kinds += [("parallel", 1.0), ("parallel", 0.3)]
    assert sorted(cells) == sorted(3 * kinds)
    assert "temperature 0.3" in table
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["config"]["plan"]["temperatures"] == [0.6]
    assert summary["config"]["plan"]["control_temperatures"] == [1.0, 0.3]
    assert {row["matched_parallel_k"] for row in summary["rows"] if row["method"] == "swor"} == {8}
    assert run.main([*options, "--report-only"]) == 0
    assert "temperature 0.3" in capsys.readouterr().out
    assert compare.main([str(tmp_path)]) == 0
    needed = json.loads((tmp_path / "compare.json").read_text())["needed"]
    references = {entry["reference"] for entry in needed if entry["method"] == "swor τ=0.6"}
    assert references == {"parallel τ=0.6", "parallel τ=1", "parallel τ=0.3"}
    assert run.main(options) == 2
    assert "control_temperatures 1.0,0.3 → " in capsys.readouterr().err
    assert len(lines(tmp_path)) == 15


@pytest.mark.usefixtures("scripted")
def test_options_without_influence_on_results_may_change(tmp_path: Path) -> None:
    arguments = ["--limit", "2", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    more = ["--concurrency", "3", "--server", "http://y", "--api-key", "k"]
    assert run.main([*arguments, *more]) == 0


@pytest.mark.usefixtures("scripted")
def test_another_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--limit", "2", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    assert run.main([*arguments, "--model", "some/other"]) == 2
    assert re.search(r"model \S+ → some/other", capsys.readouterr().err)


def test_another_model_behind_a_server_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(Counting(stops_at=2))
    arguments = ["--limit", "4", "--concurrency", "1", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    config = tmp_path / "config.json"
    header = json.loads(config.read_text())
    config.write_text(json.dumps(header | {"model": "another", "model_digest": None}))
    assert run.main([*arguments, "--server", "http://x"]) == 1
    assert "another server: model" in capsys.readouterr().err
    assert len(lines(tmp_path)) == 1


def test_the_default_folder_is_continued_or_set_aside_for_another_configuration(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scripted: Scripted,
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    scripted(Counting(stops_at=2))
    arguments = ["--methods", EAGER, "--concurrency", "1", "--limit"]
    assert run.main([*arguments, "2"]) == 1
    scripted(Counting())
    assert run.main([*arguments, "3"]) == 2, "a run that can go on is not put away"
    assert "limit 2 → 3" in capsys.readouterr().err
    assert run.main([*arguments, "2"]) == 0
    assert len(lines(runs / "quickstart")) == 6
    for number, limit in ((1, "3"), (2, "4")):
        assert run.main([*arguments, limit]) == 0
        assert f"→ {limit}" in capsys.readouterr().out
        assert (runs / f"quickstart.{number}" / "summary.json").exists()
        assert len(lines(runs / "quickstart")) == 3 * int(limit)
    assert len(lines(runs / "quickstart.1")) == 6


@pytest.mark.usefixtures("scripted")
def test_two_runs_do_not_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.1)
    arguments = ["--limit", "2", "--output-dir", str(tmp_path)]
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run.main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: another run is at work in {tmp_path}")
    assert run.main(arguments) == 0


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("default", [True, False])
def test_a_file_in_the_way_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    default: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("runs") if default else Path("file")
    path.write_text("mine")
    assert run.main([] if default else ["--output-dir", "file"]) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 1, "model": "m"}'])
def test_a_file_that_is_not_a_configuration_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    assert run.main(["--output-dir", str(tmp_path)]) == 2
    assert "config.json is not the configuration of a run" in capsys.readouterr().err


def test_results_without_their_configuration_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("mine\n")
    assert run.main(["--output-dir", str(tmp_path)]) == 2
    assert "holds results without config.json" in capsys.readouterr().err
    assert results.read_text() == "mine\n"


def test_a_torn_line_is_cut_off_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(Counting(stops_at=5))
    arguments = [*SMALL, "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"method": "paral')
    scripted(Counting())
    capsys.readouterr()
    assert run.main(arguments) == 0
    said = capsys.readouterr().out
    assert f"cut 17 bytes of an unfinished line off {tmp_path}/results.jsonl\n" in said
    assert len({key_of(line) for line in lines(tmp_path)}) == len(lines(tmp_path)) == 18


def test_a_partial_run_is_reported_as_partial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(Counting(stops_at=3))
    arguments = [*SMALL, "--concurrency", "1", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    capsys.readouterr()
    assert run.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    assert "partial" in capsys.readouterr().out.lower()
    summary = json.loads((tmp_path / "summary.json").read_text())
    missing = {entry["method"]: entry["num_missing"] for entry in summary["missing"]}
    assert summary["partial"] is True
    assert missing == {"eager_init": 4, "eager_adapt": 6, "eager": 6}
    scripted(Counting())
    assert run.main(arguments) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["partial"], summary["missing"]) == (False, [])


def test_there_must_be_something_to_report_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--report-only", "--output-dir", str(tmp_path / "none")]) == 2
    assert "none holds no run; give the folder of one" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_results_of_another_version_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(Counting(stops_at=3))
    arguments = [*SMALL, "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    header = json.loads((tmp_path / "config.json").read_text())
    header["versions"]["server_sglang"] = "0.1"
    (tmp_path / "config.json").write_text(json.dumps(header))
    scripted(Counting())
    assert run.main(arguments) == 0
    assert "other versions: server_sglang 0.1 → 0.5.23" in capsys.readouterr().out


def test_other_weights_of_the_same_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(Counting(stops_at=3))
    arguments = [*SMALL, "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    header = json.loads((tmp_path / "config.json").read_text())
    header["model_digest"] = "another"
    (tmp_path / "config.json").write_text(json.dumps(header))
    assert run.main(arguments) == 1
    assert "model_digest another → " in capsys.readouterr().err
