"""`python -m evals.proof` with hand-made methods: its sizes, its page, and what it continues."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evals import run
from evals.proof.__main__ import main
from evals.proof.arguments import of_parallel, public
from evals.proof.sizing import Sizing, TooFewTokensError

METHODS = ["--methods", "parallel,eager_init", "--max-sequences", "4"]


def proof(folder: Path, *more: str, tokens: int = 1300) -> int:
    sizes = ["--tokens", str(tokens), "--device", "a device"]
    return main([*METHODS, *sizes, *more, "--output-dir", str(folder)])


@pytest.mark.usefixtures("scripted")
def test_the_page_and_the_file_have_every_method(tmp_path: Path) -> None:
    assert proof(tmp_path) == 0
    content = json.loads((tmp_path / "proof.json").read_text())
    assert [row["method"] for row in content["rows"]] == ["parallel", "eager_init"]
    spent = json.loads((tmp_path / "pilot" / "summary.json").read_text())["rows"][0]
    per_prompt = spent["tokens_generated"] / spent["num_prompts"]
    number = int((1300 - spent["tokens_generated"]) / (2 * per_prompt))
    assert [row["num_prompts"] for row in content["rows"]] == [number] * 2
    page = (tmp_path / "proof.md").read_text()
    assert "Device: a device." in page
    share = content["rows"][1]["beside_parallel"]["tokens"]
    assert f"| eager_init | {content['rows'][1]['cons_at_k']:.3f} (" in page
    assert f"| {share:.2f} [" in page


@pytest.mark.usefixtures("scripted")
def test_the_page_has_what_a_sceptic_asks_for(tmp_path: Path) -> None:
    """The settings are those of the run, and what was not run is named."""
    assert proof(tmp_path, "--server", "http://secret-host:1") == 0
    page, content = (tmp_path / "proof.md").read_text(), (tmp_path / "proof.json").read_text()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    sampling = config["config"]["eager"]["sampling"]
    for text in (
        *(f"{name} {version}" for name, version in config["versions"].items()),
        f"at most {sampling['max_new_tokens']:,} tokens a sequence",
        f"top-p {sampling['top_p']:g}",
        f"digest of their texts {config['config']['prompts_digest']}",
        "digest of its weights" if config["model_digest"] else "weights not on this machine",
        "| page written | 20",
        "--server URL`",
    ):
        assert text in page
    others = [name for name in run.METHODS if name not in ("parallel", "eager_init")]
    assert f"- Methods: {', '.join(others)}." in page
    assert json.loads(content)["settings"]["plan"] == config["config"]["plan"]
    assert all(f"- {sentence}" in page for sentence in json.loads(content)["not_run"])
    assert "secret-host" not in page + content
    assert str(tmp_path) not in page + content


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(
    "more", [[], ["--parallel-sequences", "16"], ["--control-temperatures", "0.1"]]
)
def test_every_token_counts_and_is_planned(tmp_path: Path, more: list[str]) -> None:
    """Also of Full Parallel beyond M and at other temperatures, and of second stages."""
    methods = ["--methods", "parallel,eager_init,eager_adapt"]
    assert proof(tmp_path, *methods, *more, tokens=3000) == 0
    folders = {name: tmp_path / name for name in ("pilot", "run")}
    lines = {
        name: [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]
        for name, path in folders.items()
    }
    # A line of two stages has the tokens of its first stage, which has a line of its own.
    spent = {
        name: sum((line["stage_two"] or line["counts"])["generated"] for line in of_run)
        for name, of_run in lines.items()
    }
    page = (tmp_path / "proof.md").read_text()
    assert f"; {spent['pilot'] + spent['run']:,} tokens generated of 3,000 allowed" in page
    plan = json.loads((tmp_path / "proof.json").read_text())["settings"]["plan"]
    num_cells = len({(line["method"], line["temperature"]) for line in lines["run"]})
    beyond = plan["parallel_sequences"] / 4 - 1
    summary = json.loads((folders["pilot"] / "summary.json").read_text())
    rows = summary["rows"]
    per_prompt = sum(r["tokens_generated"] for r in rows) / sum(r["num_prompts"] for r in rows)
    num_runs = num_cells + beyond * len(rows)
    assert plan["num_prompts"] == int((3000 - spent["pilot"]) / (per_prompt * num_runs))


@pytest.mark.usefixtures("scripted")
def test_a_proof_is_continued(tmp_path: Path) -> None:
    assert proof(tmp_path) == 0
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    assert proof(tmp_path) == 0
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before


@pytest.mark.usefixtures("scripted")
def test_a_page_says_when_its_run_was_made_and_when_it_was_written(tmp_path: Path) -> None:
    """They differ where a page is written again for a run that is complete."""
    assert proof(tmp_path) == 0
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f"| run made | {today} |" in (tmp_path / "proof.md").read_text()
    for name, day in (("pilot", 1), ("run", 2)):
        seconds = datetime(2001, 2, day, 12, tzinfo=UTC).timestamp()
        os.utime(tmp_path / name / "results.jsonl", (seconds, seconds))
    assert proof(tmp_path) == 0
    page, content = (tmp_path / "proof.md").read_text(), (tmp_path / "proof.json").read_text()
    assert "| run made | 2001-02-01 to 2001-02-02 |" in page
    assert f"| page written | {today} |" in page
    assert json.loads(content)["run_made"] == "2001-02-01 to 2001-02-02"
    assert json.loads(content)["page_written"] == today


@pytest.mark.usefixtures("scripted")
def test_bars_and_new_lines_do_not_end_a_cell(tmp_path: Path) -> None:
    assert proof(tmp_path, "--device", "1 | 2\nGPUs", "--reasoning-end", "a|b") == 0
    page = (tmp_path / "proof.md").read_text()
    assert r"| device | 1 \| 2 GPUs |" in page
    assert r'reasoning ends with `"a\|b"`' in page
    rows = page.partition("## How it was run")[2].partition("##")[0].strip().splitlines()
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {4}, "two cells each"


@pytest.mark.usefixtures("scripted")
def test_the_key_is_in_no_file(tmp_path: Path) -> None:
    assert proof(tmp_path, "--api-key", "s3cr3t") == 0
    assert proof(tmp_path, "--api-key=s3cr3t") == 0
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"s3cr3t" in text for text in texts)


@pytest.mark.usefixtures("scripted")
def test_options_of_votes_are_no_obstacle_to_the_pilot(tmp_path: Path) -> None:
    given = ["--methods", "parallel,vote", "--vote-rule", "beta:0.9", "--vote-weights=probability"]
    sizes = ["--tokens", "1300", "--max-sequences", "4", "--stop=none"]
    assert main([*given, *sizes, "--output-dir", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "proof.json").read_text())
    assert [row["method"] for row in content["rows"]] == ["parallel", "vote"]
    assert "--vote-weights=probability" in content["command"]


@pytest.mark.usefixtures("scripted")
def test_an_adaptive_threshold_is_no_obstacle_to_the_pilot(tmp_path: Path) -> None:
    assert proof(tmp_path, "--theta", "auto") == 0
    assert "--theta auto" in (tmp_path / "proof.md").read_text()
    assert of_parallel(["--theta", "quantile:0.98"]) == []
    assert of_parallel(["--theta", "0.5"]) == ["--theta", "0.5"], "in the pilot's configuration"


def test_wrong_options_of_methods_are_refused_before_the_pilot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        proof(tmp_path, "--theta", "99")
    assert "--theta is 99" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_the_command_of_a_page_has_neither_the_key_nor_paths() -> None:
    given = ["--model=/a/path/name", "--api-key", "secret", "--task", "countdown"]
    assert public(given) == ["--task", "countdown", "--model", "name"]
    assert public(["--task=/a/path/mine.jsonl"]) == ["--task", "mine.jsonl"]
    assert public(["--tokens", "5"]) == ["--tokens", "5"]
    assert public(["--model", "Qwen/Qwen3-4B"]) == ["--model", "Qwen/Qwen3-4B"]
    assert public(["--server=http://a:1", "--output-dir", "/a"]) == ["--server", "URL"]
    assert public(["--theta", "/a/b.json"]) == ["--theta", "b.json"]


@pytest.mark.usefixtures("scripted")
def test_a_proof_of_a_prompt_file_has_its_name_and_not_its_path(tmp_path: Path) -> None:
    prompts = tmp_path / "secret folder" / "mine.jsonl"
    prompts.parent.mkdir()
    line = '{"id": "%d", "prompt": "What is %d + 1?", "answer": "%d"}\n'
    prompts.write_text("".join(line % (n, n, n + 1) for n in range(40)))
    assert proof(tmp_path, "--task", str(prompts)) == 0
    page = (tmp_path / "proof.md").read_text()
    assert page.startswith("# mine.jsonl with ")
    assert json.loads((tmp_path / "proof.json").read_text())["task"] == "mine.jsonl"
    assert "secret folder" not in page + (tmp_path / "proof.json").read_text()


@pytest.mark.usefixtures("scripted")
def test_too_few_tokens_are_refused_with_the_number_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert proof(tmp_path, tokens=100) == 2
    assert "--tokens 100 allows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--methods", "vote"], "--methods is vote; every method is compared with parallel"),
        (["--temperature", "0.6,1"], "--temperature is 0.6,1; a proof has a single value"),
        (["--limit", "7"], "--limit has no meaning in a proof; leave it out"),
        (["--limit=7"], "--limit has no meaning in a proof"),
        (["--report-only"], "--report-only has no meaning in a proof"),
        (["--regrade"], "--regrade has no meaning in a proof"),
        (["--replay"], "--replay has no meaning in a proof"),
    ],
)
def test_runs_without_a_page_are_refused_before_they_begin(
    given: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--output-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_the_number_named_suffices() -> None:
    sizing = Sizing(spent=80, per_prompt=12.5)
    with pytest.raises(TooFewTokensError, match="10 need 455"):
        sizing.num_prompts(454, num_runs=3)
    assert sizing.num_prompts(455, num_runs=3) == 10
