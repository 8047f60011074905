"""`--verifier` and `--priority` of the user: a wrong function is refused by name."""

import sys
from pathlib import Path

import pytest

from evals import run
from evals.execution import evaluation
from evals.records.failures import FAILURES, read_failures
from tests.evals.fakes.scripted_run import Scripted, generate, lines

SOURCE = """
import math
import numpy as np
from eager_sgl.search.priorities import Best

def one(sample): return True
def three(sample, text, more): return True
def by_name(*, sample, text): return True
def score(sample, text): return 0.97
def nan(sample, text): return math.nan
def nothing(sample, text): pass
def number(sample, text): return 1
def raises(sample, text): return sample.answer == text
async def later(sample, text): return True
def later_wrong(sample, text, seen=[]):
    seen.append(text)
    return True if len(seen) < 3 else 0.5
def later_raises(sample, text, seen=[]):
    seen.append(text)
    return {1: True, 2: True}[len(seen)]
def right(sample, text): return np.bool_(sample.id != "" and "1" in text)

def plain(candidates): return candidates.entropies
nans = Best(lambda c: c.entropies * math.nan)
short = Best(lambda c: c.entropies[:2])
broken = Best(lambda c: c.entropie)
fine = Best(lambda c: c.entropies)
number_of = 3
class Column:
    reshaping = fine.reshaping
    def __call__(self, c): return c.entropies[:, None]
class Two:
    reshaping = fine.reshaping
    def __call__(self, c, d): return c.entropies
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working directory."""
    name = "own_functions"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("verifier", "one", "takes (sample); it is called with (sample, text)"),
        ("verifier", "three", "takes (sample, text, more); it is called with (sample, text)"),
        ("verifier", "by_name", "takes (*, sample, text); it is called with (sample, text)"),
        ("verifier", "score", "returned 0.97 (float); it must return True or False"),
        ("verifier", "nan", "returned nan (float); it must return True or False"),
        ("verifier", "nothing", "returned None (NoneType); it must return True or False"),
        ("verifier", "number", "returned 1 (int); it must return True or False"),
        ("verifier", "raises", "raised AttributeError: 'Sample' object has no attribute 'answer'"),
        ("verifier", "later", "(coroutine); it must return True or False"),
        ("priority", "plain", "has no reshaping"),
        ("priority", "nans", "returned NaN for number 0 of 9"),
        ("priority", "short", "raised ValueError: "),
        ("priority", "broken", "raised AttributeError: 'Candidates' object has no attribute 'ent"),
        ("priority", "Column", "it must return an array [9] of numbers, this is float64 [9, 1]"),
        ("priority", "Two", "takes (c, d); it is called with (candidates): missing a required"),
        ("priority", "number_of", "is a int, not a function"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_wrong_function_is_refused_before_anything_starts(
    module: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    name: str,
    message: str,
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr(evaluation, "hosted", refuse)
    with pytest.raises(SystemExit) as exit_:
        run.main([f"--{option}", f"{module}:{name}", "--output-dir", "run"])
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith(f"error: {option} '{module}:{name}' ")
    assert message in error
    assert error.count("\n") == 1
    assert not Path("run").exists()


def test_valid_functions_are_accepted(module: str, scripted: Scripted) -> None:
    scripted(generate)
    options = ("--verifier", f"{module}:right", "--priority", f"{module}:fine", "--limit", "2")
    assert run.main(["--methods", "eager_init,eager", *options, "--output-dir", "run"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("later_wrong", "returned 0.5 (float); it must return True or False"),
        ("later_raises", "raised KeyError: "),
    ],
)
def test_a_verifier_that_fails_later_is_named_and_results_are_kept(
    module: str, scripted: Scripted, name: str, message: str
) -> None:
    scripted(generate)
    options = ("--verifier", f"{module}:{name}", "--limit", "4", "--concurrency", "1")
    assert run.main(["--methods", "eager_init", *options, "--output-dir", "run"]) == 3
    assert len(lines(Path("run"))) == 1
    failures = read_failures(Path("run") / FAILURES, ())[0]
    assert len(failures) == 3
    assert all(f"verifier '{module}:{name}' {message}" in entry.reason for entry in failures)
