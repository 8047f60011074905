"""Runs of 0.1.0, with schema 1, are reported, compared, judged again and continued."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals import compare, run
from evals.records import judging
from evals.records.header import read_header
from evals.records.results import read_results
from evals.records.schema import NEW_NAMES, upgrade_header
from tests.evals.fakes.scripted_run import Scripted, lines

RUNS = Path(__file__).parent / "fixtures" / "run_0_1_0"
NAMES = ("auto", "methods", "shared")
NEW_OF_SUMMARY = {
    "tokens_hand_set": "tokens_forced",
    "running_theta": "adaptive_theta",
    "how": "mode",
    "inexact_walks": "inexact_samples",
}
AUTO = ("--methods", "parallel,eager_init", "--theta", "auto", "--control-temperatures", "1.0")
SMALL = ("--max-sequences", "4", "--max-new-tokens", "160")


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the run that the test names."""
    return Path(shutil.copytree(RUNS / request.param, tmp_path / "run"))


of_each = pytest.mark.parametrize("folder", NAMES, indirect=True)


def content(folder: Path, name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / name).read_text())
    return stored


def renamed(value: Any) -> Any:
    """Content of schema 1 with the names of a summary of schema 2."""
    if isinstance(value, dict):
        return {NEW_OF_SUMMARY.get(name, name): renamed(item) for name, item in value.items()}
    return [renamed(item) for item in value] if isinstance(value, list) else value


def figures(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures that summaries of both schemas have."""
    for row in summary["rows"]:
        row.pop("beside_parallel", None)
        row.pop("votes", None)
    names = ("partial", "missing", "num_failed", "rows", "entropy_pass_rate", "stage_two_contrasts")
    return {name: renamed(summary[name]) for name in names}


@of_each
def test_every_line_is_read(folder: Path) -> None:
    cells = read_header(folder).config.plan.cells
    records, bad = read_results(folder / "results.jsonl", cells)
    assert not bad
    assert len(records) == len((folder / "results.jsonl").read_bytes().splitlines())


def test_the_runs_have_every_name_that_has_changed() -> None:
    text = "".join(path.read_text() for path in RUNS.rglob("*.json*"))
    for name in (*NEW_NAMES, *NEW_OF_SUMMARY):
        assert f'"{name}": ' in text
    for value in ('"doubt"', '"consequential_early_peaks"', '"shown": {', '"refused": [{'):
        assert value in text
    lines = (RUNS / "shared" / "failures.jsonl").read_text().splitlines()
    assert any(map(json.loads, lines))


@of_each
@pytest.mark.usefixtures("scripted")
def test_a_report_has_the_figures_of_its_own_summary(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    old = content(folder, "summary.json")
    assert run.main(["--report-only", "--output-dir", str(folder)]) == 0
    new = content(folder, "summary.json")
    assert figures(new) == figures(old)
    assert (old["schema"], new["schema"]) == (1, 2)
    for name in ("config.json", "results.jsonl"):
        assert (folder / name).read_bytes() == before[name], "a report changes no results"


@pytest.mark.parametrize(
    ("folder", "code"), [("methods", 0), ("auto", 0), ("shared", 2)], indirect=["folder"]
)
def test_it_is_compared(folder: Path, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(folder)]) == code
    said = capsys.readouterr()
    if code:
        assert "was run with --stop unexplored:0.5;" in said.err
    else:
        assert "stopped at the first correct sequence" in said.out


@of_each
@pytest.mark.usefixtures("scripted")
def test_it_is_judged_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = content(folder, "summary.json")
    assert run.main(["--regrade", "--output-dir", str(folder)]) == 0
    assert "0 judgements changed" in capsys.readouterr().out
    assert figures(content(folder, "summary.json")) == figures(old)
    assert content(folder, "config.json")["schema"] == 2
    assert all("deferred" in line for line in lines(folder))


def command(folder: Path, *more: str) -> list[str]:
    return [*AUTO, *SMALL, "--limit", "2", "--output-dir", str(folder), *more]


@pytest.mark.parametrize("folder", ["auto"], indirect=True)
@pytest.mark.usefixtures("scripted")
def test_other_judges_are_asked_about_before_anything_changes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run.main(command(folder)) == 2
    assert "judge them again with --regrade" in capsys.readouterr().err
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name in before
    } == before
    assert run.main(["--regrade", "--output-dir", str(folder)]) == 0
    assert run.main(command(folder)) == 0


@pytest.fixture
def same_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads((RUNS / "auto" / "results.jsonl").read_text().splitlines()[0])
    digest = line["judged_by"]["judges"]["judges"]
    monkeypatch.setattr(judging, "judges_digest", lambda: digest)


@pytest.mark.parametrize("folder", ["auto"], indirect=True)
@pytest.mark.usefixtures("same_judges")
def test_a_complete_run_becomes_one_of_schema_2(folder: Path, scripted: Scripted) -> None:
    old = content(folder, "summary.json")
    assert run.main(command(folder)) == 0
    assert figures(content(folder, "summary.json")) == figures(old)
    header = content(folder, "config.json")
    assert header == {name: content(folder, "summary.json")[name] for name in header}
    assert header["schema"] == 2
    assert all("refused" not in line for line in lines(folder))


@pytest.mark.parametrize("folder", ["auto"], indirect=True)
@pytest.mark.usefixtures("same_judges")
def test_an_unfinished_run_is_continued_in_schema_2(folder: Path, scripted: Scripted) -> None:
    path = folder / "results.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:-1]))
    (folder / "summary.json").unlink()
    assert run.main(command(folder)) == 0
    stored = lines(folder)
    assert len(stored) == len(whole)
    assert [line["sample_id"] for line in stored] == [
        json.loads(line)["sample_id"] for line in whole
    ]
    assert all("deferred" in line and "forced" in line["counts"] for line in stored)
    assert content(folder, "summary.json")["schema"] == 2


@pytest.mark.parametrize("folder", ["auto"], indirect=True)
@pytest.mark.usefixtures("same_judges", "scripted")
def test_an_interrupted_change_of_schema_begins_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evals.records import folder as folders

    def crash(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_header", crash)
        with pytest.raises(MemoryError):
            run.main(command(folder))
    assert content(folder, "config.json")["schema"] == 1
    assert run.main(command(folder)) == 0
    assert content(folder, "config.json")["schema"] == 2


@pytest.mark.parametrize("folder", ["auto"], indirect=True)
@pytest.mark.usefixtures("same_judges", "scripted")
def test_another_configuration_is_refused_in_new_words(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(command(folder, "--theta", "quantile:0.9", "--patience", "7")) == 2
    error = capsys.readouterr().err
    for change in ("eager.patience 1000 → 7", "adaptive_quantile none → 0.9"):
        assert change in error
    assert content(folder, "config.json")["schema"] == 1


@pytest.mark.parametrize(
    ("search", "bids"),
    [
        ({"token_budget": None}, None),
        ({"token_budget": 400}, "frontier"),
        ({"token_budget": 400, "bids": "doubt"}, "vote_uncertainty"),
    ],
)
def test_bids_that_were_left_out_are_known(search: dict[str, Any], bids: str | None) -> None:
    content = upgrade_header({"schema": 1, "config": {"search": search}})
    assert content["config"]["search"]["bids"] == bids


WRONG: list[Any] = [None, [], {}, 1, "x", {"schema": 1}, {"schema": 1, "config": 3}]


@pytest.mark.parametrize("content", [*WRONG, {"schema": 1, "config": {"search": [1]}}])
def test_something_else_is_left_to_the_reader(content: Any) -> None:
    upgrade_header(content)
