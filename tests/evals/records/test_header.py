"""`config.json`: read as it was written, and a wrong field is named with its value."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import EagerConfig
from evals import compare, run
from evals.records.files import StoreError
from evals.records.header import (
    EagerFields,
    RunHeader,
    SamplingFields,
    differences,
    read_header,
    write_header,
)
from tests.evals.fakes import sample_run

PLAN = sample_run.plan(methods=("parallel", "eager_init"), control_temperatures=(0.3,))
HEADER = sample_run.header(
    PLAN, dataset={"copy": "a.jsonl", "rows": 7}, search={"options": {"priority": "entropy"}}
)


def test_a_header_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_header(tmp_path, HEADER)
    assert read_header(tmp_path) == HEADER
    assert HEADER.config.dataset_copy == "a.jsonl"


def test_what_is_not_swept_is_stored() -> None:
    """A field that were not stored could change between two sessions of a run unseen."""
    swept = {"threshold", "max_sequences", "deferred_threshold"}
    assert {f.name for f in fields(EagerFields)} == {f.name for f in fields(EagerConfig)} - swept
    sampling = {f.name for f in fields(EagerConfig(threshold=1.0).sampling)}
    assert {f.name for f in fields(SamplingFields)} == sampling - {"temperature"}


def broken(path: str, value: Any) -> dict[str, Any]:
    """The header with another value in one place, which is left out for `...`."""
    content: Any = json.loads(json.dumps(HEADER.to_json()))
    *names, last = path.split(".")
    parent = content
    for name in names:
        parent = parent[name]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return dict(content)


WRONG = [
    ("config.plan.num_prompts", "7", 'config.plan.num_prompts is "7": expected `int`, got `str`'),
    ("config.plan.seeds", [0, "one"], 'config.plan.seeds[1] is "one": expected `int`, got `str`'),
    ("config.plan.temperatures", [], "config.plan.temperatures is []: expected `array` of length"),
    ("config.plan.parallel_sequences", 3, "parallel_sequences is 3; it must be at least the large"),
    ("config.plan", None, "config.plan is null: expected `object`, got `null`"),
    ("config.plan.methods", ..., "it has no config.plan.methods"),
    ("config.eager.reasoning_end", 5, "config.eager.reasoning_end is 5: expected `str | null`"),
    ("config.eager.sampling", [], "config.eager.sampling is []: expected `object`, got `array`"),
    ("config.search.width", "wide", 'config.search.width is "wide": expected `int`, got `str`'),
    ("config.search", {}, "it has no config.search.width"),
    ("config.rules", {"eager": 1}, 'config.rules[...] is {"eager": 1}: expected `object`'),
    ("config.levels", "x" * 90, f'config.levels is "{"x" * 59}…: expected `array | null`'),
    ("config", [1], "config is [1]: expected `object`, got `array`"),
    ("model", None, "model is null: expected `str`, got `null`"),
    ("logprobs", ..., "it has no logprobs"),
    ("schema", 3, "its schema is 3, and this version reads 1 and 2; use the version that wrote it"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_a_wrong_field_is_named_with_its_value(
    tmp_path: Path, path: str, value: Any, message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(broken(path, value)))
    with pytest.raises(StoreError, match="config.json is not the configuration of a") as raised:
        read_header(tmp_path)
    assert message in str(raised.value)


COMMANDS: list[Callable[[str], int]] = [
    lambda folder: run.main(["--report-only", "--output-dir", folder]),
    lambda folder: run.main(["--regrade", "--output-dir", folder]),
    lambda folder: run.main(["--limit", "1", "--output-dir", folder]),
    lambda folder: compare.main([folder]),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", ["{", "[]", json.dumps(broken("config.plan.seeds", "one"))])
def test_every_command_says_so_in_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[str], int],
    content: str,
) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "results.jsonl").write_text("")
    try:
        code = command(str(tmp_path))
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"error: {tmp_path / 'config.json'} is not the configuration of a run")
    assert error.count("\n") == 1


def differing(**config: Any) -> str:
    return differences(HEADER.config, replace(HEADER.config, **config))


def test_differences_are_named_as_on_the_command_line() -> None:
    assert differing() == ""
    assert differing(plan=replace(PLAN, max_sequences=(2, 4))) == "max_sequences 4 → 2,4"
    assert differing(limit=5, verifier="a:b") == "limit none → 5, verifier none → a:b"
    assert differing(dataset=None).startswith("dataset.copy a.jsonl → absent")
    assert differing(concurrency=9, server="http://x") == "", "they are free to change"


def test_a_header_without_a_schema_is_of_the_present_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(broken("schema", ...)))
    assert read_header(tmp_path) == HEADER
    assert isinstance(HEADER, RunHeader)
