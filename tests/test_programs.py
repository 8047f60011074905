"""The programs to copy: short, documented, without the evaluation; parts without a server."""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl import PromptResult, TokenCounts
from eager_sgl.generate import events as e
from evals.config.parse import parse_settings
from evals.execution.methods import METHODS
from evals.tasks.countdown_rules import Problem, instruction, is_correct
from programs import _demo
from programs.streaming import Screen, watch
from tests.pages import ROOT, page

PROGRAMS = sorted(path for path in (ROOT / "programs").glob("*.py") if path.stem[0] != "_")
COMMANDS = [path for path in PROGRAMS if path.stem != "eager_by_hand"]
"""All but the method itself, which has no other lines."""
MAX_LINES = 79


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_is_short_and_has_a_line_on_the_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert f"[{path.name}](../programs/{path.name})" in page("docs/programs.md").text


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_program_names_its_command(path: Path) -> None:
    module = ast.parse(path.read_text())
    assert f".venv/bin/python programs/{path.name}" in (ast.get_docstring(module) or "")
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_asks_all_its_questions(path: Path) -> None:
    """It takes several, so none of them by its number."""
    (main,) = (
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    )
    chosen = [ast.unparse(node.value) for node in ast.walk(main) if isinstance(node, ast.Subscript)]
    assert "questions" not in chosen


@pytest.mark.parametrize("path", (ROOT / "programs").glob("*.py"), ids=lambda path: path.stem)
def test_programs_do_not_import_the_evaluation(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    assert not [module for module in modules if module.split(".")[0] in ("evals", "tests")]


def test_a_command_without_a_server_starts_the_bundled_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Path] = []

    @contextmanager
    def runtime(model: Path, *, log_path: Path) -> Iterator[SimpleNamespace]:
        started.append(model)
        yield SimpleNamespace(url="http://localhost:1", api_key="key")

    monkeypatch.setattr(_demo, "EmbeddedRuntime", runtime)
    monkeypatch.setattr(sys, "argv", ["vote.py"])
    with _demo.command("A page.", "make 12 from 07 05") as given:
        assert given == ("http://localhost:1", "key", ["make 12 from 07 05"])
    assert (started[0] / "config.json").exists()


ANSWERS = ["07+05", "7+5", "(7+5)", "05+07", "7*5", "12", "7+5+0", "7**5", "7//5", "7+", "", "(7+5"]


@given(st.sampled_from(ANSWERS) | st.text("0123456789+-*/() ", max_size=12))
def test_an_answer_is_judged_as_by_the_evaluation(answer: str) -> None:
    problem = Problem((7, 5), 12, level=1)
    assert _demo.solves(instruction(problem), answer) == is_correct(problem, answer)


def test_the_priority_is_taken_by_the_command_line() -> None:
    name = "programs.own_priority:TIES"
    assert name in (ROOT / "programs" / "own_priority.py").read_text()
    options = ["--methods", "parallel,best_first", "--priority", name]
    assert parse_settings(options, METHODS).experiment.priority == name


def test_withdrawn_sequences_and_tokens_leave_the_lines() -> None:
    result: Any = PromptResult((9,), (), TokenCounts(), max_sequences=2)
    frames: list[list[str]] = []
    events: list[e.Event] = [
        e.SequenceOpened(0, None, 0),
        e.TokensAppended(0, 0, (1, 2), "ab"),
        e.SequenceFinished(0, "stop"),
        e.SequenceOpened(1, 0, 1, 1),
        e.CostChanged(TokenCounts(generated=2), 1),
        e.TokensWithdrawn(0, 1, 1),
        e.SequenceWithdrawn(1),
        e.CostChanged(TokenCounts(generated=3), 1),
        e.Completed(result, ()),
    ]
    assert watch(events, lambda lines: frames.append(list(lines))) is result
    assert [frame[:-1] for frame in frames] == [["■ ab", "… a"], ["… a"]]
    assert frames[-1][-1] == "3 tokens, 1 sequences running"


def test_a_screen_draws_over_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("LINES", "4")
    out = io.StringIO()
    screen = Screen(out)
    screen.draw(["■ " + "x" * 30 + "the end", "b"])
    assert out.getvalue() == "■ the end\nb\n"
    screen.draw(["1", "2", "3", "4"])
    assert out.getvalue().endswith("\x1b[2F\x1b[J2\n3\n4\n")
