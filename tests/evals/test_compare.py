"""`evals/compare.py` on the folder of a run."""

import json
from pathlib import Path

import pytest

from evals import compare
from evals.records.files import to_line
from evals.records.header import write_header
from tests.evals.fakes import sample_run


def test_a_run_is_compared_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("parallel", "eager_init", "best_first", "trie_parallel")
    plan = sample_run.plan(
        methods=methods, max_sequences=(4, 10), temperatures=(0.6, 1.0), num_prompts=9
    )
    write_header(tmp_path, sample_run.header(plan, search={"width": 2}))
    lines = [to_line(record.to_json()) for record in sample_run.run_records(plan)]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    assert compare.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for text in (
        "levels 1, 2, 3, 9 prompts",
        "levels 2, 3",
        "best_first τ=0.6",
        "pass@8",
        "weighted",
        "seconds per prompt",
        "at the tokens of",
        "eager_init θ=0.7 τ=0.6",
        "best_first τ=0.6 against eager_init θ=0.7 τ=0.6 at equal tokens:",
        "best_first τ=0.6 against parallel τ=0.6:",
        "trie_parallel τ=0.6, shared against parallel τ=0.6:",
    ):
        assert text in said
    content = json.loads((tmp_path / "compare.json").read_text())
    assert {entry["k"] for entry in content["needed"]} == {8}
    assert {entry["max_sequences"] for entry in content["budgets"]} == {4, 10}
    assert len(content["findings"]) == len({line.partition(":")[0] for line in content["findings"]})
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert {curve["label"] for curve in content["curves"]} >= {"best_first", "best_first, shared"}
    assert f"results: {tmp_path / 'compare.json'}, {tmp_path / 'compare.png'}" in said
    elsewhere = tmp_path / "new" / "place"
    assert compare.main([str(tmp_path), "--output-dir", str(elsewhere)]) == 0
    assert f"results: {elsewhere / 'compare.json'}" in capsys.readouterr().out
    assert json.loads((elsewhere / "compare.json").read_text()) == content
    assert (elsewhere / "compare.png").exists()
    assert compare.main([str(tmp_path), "--output-dir", str(tmp_path / "config.json")]) == 2
    assert f"cannot use {tmp_path / 'config.json'}" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "none")]) == 2
    (tmp_path / "results.jsonl").write_text("".join(lines[:-2]))
    assert compare.main([str(tmp_path)]) == 2
    assert "lacks 2 results; repeat its command" in capsys.readouterr().err
    for search, option in (
        ({"stop": "consensus"}, "--stop consensus"),
        ({"token_budget": 400, "bids": "frontier"}, "--bids frontier"),
    ):
        write_header(tmp_path, sample_run.header(plan, search={"width": 2, **search}))
        assert compare.main([str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert f"was run with {option};" in said
        assert said.count("\n") == 1


def test_a_run_of_another_version_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"config": {}, "model": "m", "model_digest": null}')
    (tmp_path / "results.jsonl").write_text("")
    assert compare.main([str(tmp_path)]) == 2
    assert "is not the configuration of a run: it has no config.plan" in capsys.readouterr().err
