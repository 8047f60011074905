"""The examples of the pages: complete, and where they need no server they run.

Those that need one run in `tests/integration/test_page_examples.py`, clients of the endpoint in
`tests/integration/clients`.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from evals.config.parse import parse_settings
from evals.execution.methods import METHODS
from tests.pages import ROOT, Block, blocks_of, page

PYTHON = blocks_of("python")
QUESTIONS = [{"question": "What is 1 + 1?", "answer": "2"}]


FILES = {
    "near_ties.py",
    "test_near_ties.py",
    "try_capitals.py",
    "evals/tasks/public/sums.py",
    "arithmetic.py",
}
"""Examples that become files of a contributor's or user's; each has a test below, the last one in
`tests/integration/clients`."""


@pytest.mark.parametrize("block", [block for block in PYTHON if not block.name], ids=str)
def test_it_calls_what_it_defines(block: Block) -> None:
    """Else running it would test no more than its imports."""
    nodes = list(ast.walk(ast.parse(block.text)))
    defined = {
        node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert defined <= {node.id for node in nodes if isinstance(node, ast.Name)}


def test_every_example_that_becomes_a_file_has_a_test() -> None:
    assert {block.name for block in PYTHON if block.name} == FILES


ALONE = [
    block for block in PYTHON if not (block.needs_server or block.needs_endpoint or block.name)
]


@pytest.mark.parametrize("block", ALONE, ids=str)
def test_it_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file, as SGLang wants to read the source of a program."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "page_example.py").write_text(block.text)
    load("page_example", monkeypatch)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that no other test sees."""
    monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        return import_module(name)
    finally:
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of CONTRIBUTING.md, as a contributor would have it."""
    for block in page("CONTRIBUTING.md").blocks:
        if block.name:
            (tmp_path / Path(block.name).name).write_text(block.text)
        if block.language == "json":
            (tmp_path / "capitals.jsonl").write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("near_ties", None)


def test_a_new_priority_is_taken_by_the_command_line(folder: Path) -> None:
    options = ["--methods", "parallel,best_first", "--priority", "near_ties:NEAR_TIES"]
    assert parse_settings(options, METHODS).experiment.priority == "near_ties:NEAR_TIES"


def test_a_new_priority_passes_its_own_test(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("test_near_ties", monkeypatch).test_the_nearest_tie_is_opened_first()


def test_prompts_of_ones_own_are_judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("try_capitals", monkeypatch)
    judged = sorted(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert judged == [["fr", "True"], ["it", "False"]]
    assert len(parse_settings(["--task", "capitals.jsonl"], METHODS).experiment.samples) == 2


def test_a_new_task_reads_its_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    task = load("sums", monkeypatch).TASK.using(questions)
    (sample,) = task.load(None, None, 0)
    assert task.score(sample, "So it is \\boxed{2}.").correct
    assert not task.score(sample, "So it is \\boxed{3}.").correct


def test_the_files_that_examples_would_become_are_not_there() -> None:
    """Or the example would hide what it is about to show."""
    for block in PYTHON:
        assert block.name is None or not (ROOT / block.name).exists()
