"""`evals/run.py` with hand-made methods: its files, its messages and its exit codes."""

import asyncio
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from eager_sgl.core import PromptResult
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.errors import AuthenticationError, RuntimeStoppedError, ServerUnreachableError
from evals import run
from evals.execution import stages
from evals.execution.calls import Call
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import (
    PROFILE,
    Scripted,
    ScriptedClient,
    generate,
    key_of,
    lines,
    server,
)

ROOT = Path(__file__).parents[2]
ALL = ["parallel", "eager_init", "eager_adapt", "eager"]


@pytest.mark.usefixtures("scripted")
def test_a_run_writes_every_prompt_and_a_summary(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run.main(["--limit", "9", "--max-sequences", "4", "--output-dir", str(folder)]) == 0
    results = lines(folder)
    assert len(set(map(key_of, results))) == len(results) == 36
    summary = json.loads((folder / "summary.json").read_text())
    header = ["schema", "task", "model", "model_digest", "logprobs", "versions", "config"]
    assert list(summary)[:7] == header
    assert (summary["schema"], summary["task"], summary["model"]) == (
        2,
        "countdown",
        PROFILE.model_path,
    )
    assert {"eager_sgl", "sglang", "torch", "python", "platform"} <= set(summary["versions"])
    assert (summary["partial"], summary["missing"]) == (False, [])
    of_cap = [row for row in summary["rows"] if row["max_sequences"] == 4]
    assert [row["method"] for row in of_cap] == ALL
    assert [row["theta"] is None for row in of_cap] == [True, False, False, False]
    config = json.loads((folder / "config.json").read_text())
    assert config == {name: summary[name] for name in header}


@pytest.mark.usefixtures("scripted")
def test_written_results_are_judged(tmp_path: Path) -> None:
    arguments = ["--limit", "1", "--methods", "eager_init", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    (line,) = lines(tmp_path)
    answered, silent = line["sequences"]
    assert (answered["answer"], answered["vote"], silent["answer"], silent["vote"]) == (
        *("01+01", 0),
        *(None, None),
    )
    assert (line["threshold"],) == run.parse_settings([], ["eager_init"]).plan.thresholds
    assert (line["seed"], line["temperature"], line["stage_two"]) == (0, 0.6, None)


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("given_by", ["argument", "environment"])
def test_the_api_key_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    arguments = ["--limit", "2", "--server", "http://x", "--output-dir", str(tmp_path)]
    if given_by == "argument":
        arguments += ["--api-key", "sesame"]
    else:
        monkeypatch.setenv(API_KEY_VARIABLE, "sesame")
    assert run.parse_settings(arguments, run.METHODS).server.api_key == "sesame"
    assert run.main(arguments) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"sesame" in path.read_bytes()]


def test_every_prompt_may_spend_m(tmp_path: Path, scripted: Scripted) -> None:
    granted = []

    def spend_all(call: Call) -> PromptResult:
        granted.append(call.account.granted)
        call.account.commit(call.account.granted)
        return result(["x"] * call.account.granted, max_sequences=call.method.max_sequences)

    scripted(spend_all)
    arguments = ["--limit", "8", "--max-sequences", "3", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    assert granted == [5] * 8 + [3] * 8, "parallel has half as many again for its curve"
    eager = [line for line in lines(tmp_path) if line["method"] == "eager"]
    assert [line["stage_two"]["eligible"] for line in eager] == [True] * 8
    assert [line["stage_two"]["extra_granted"] for line in eager] == [0] * 8


class FailsAt:
    """Generates until the n-th prompt, then raises."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.number, self.error, self.num_begun = number, error, 0
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> PromptResult:
        with self._lock:
            self.num_begun += 1
            if self.num_begun >= self.number:
                raise self.error
            return generate(*arguments)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ServerUnreachableError("http://x does not answer"), 1, "http://x does not answer"),
        (AuthenticationError("http://x refused the API key."), 1, "http://x refused the API key"),
        (RuntimeStoppedError("the scheduler died; see log"), 1, "the scheduler died; see log"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_keeps_finished_results(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scripted: Scripted,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    failing = FailsAt(4, error)
    scripted(failing, on=server(ScriptedClient(is_alive=False)))
    arguments = ["--limit", "20", "--concurrency", "1", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == code
    path = tmp_path / "results.jsonl"
    kept = f"3 finished results are kept in {path}, the same command continues the run"
    assert capsys.readouterr().err == f"error: {message}; {kept}\n"
    assert len(lines(tmp_path)) == 3
    assert not (tmp_path / "summary.json").exists()


def test_no_prompt_begins_after_a_failure(tmp_path: Path, scripted: Scripted) -> None:
    failing = FailsAt(1, AuthenticationError("no"))
    scripted(failing)
    arguments = ["--limit", "100", "--concurrency", "1", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    assert failing.num_begun < 50


def test_results_that_finish_together_with_a_failure_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Scripted
) -> None:
    together = threading.Barrier(16)

    def one_of_all_fails(*arguments: Any) -> PromptResult:
        if together.wait() == 0:
            raise AuthenticationError("no")
        return generate(*arguments)

    scripted(one_of_all_fails)
    monkeypatch.setattr(stages, "wait", lambda pending, **when: asyncio.wait(pending))
    arguments = ["--limit", "16", "--concurrency", "16", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    assert len(lines(tmp_path)) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-sequence", "8"], "unrecognized arguments: --max-sequence 8"),
        (["--theta", "0"], r"--theta is 0.0; it must be in (0, ln 20 = 2.9957]"),
        (["--theta", "3.0"], r"--theta is 3.0; it must be in (0, ln 20 = 2.9957]"),
        (["--theta", "nan"], r"--theta is nan; it must be in (0, ln 20 = 2.9957]"),
        (["--theta", "1.1", "--top-k", "3"], "--theta is 1.1; it must be in (0, ln 3 = 1.0986]"),
        (["--theta", "high"], "--theta is 'high'; it must be numbers with commas"),
        (["--theta", "0.9,0.9"], "--theta is 0.9,0.9; each value may be given once"),
        (["--max-sequences", "4,x"], "--max-sequences is '4,x'; it must be whole numbers with"),
        (["--seeds", "0,0"], "--seeds is 0,0; each value may be given once"),
        (["--seeds", "a"], "--seeds is 'a'; it must be whole numbers with commas"),
        (["--seeds", "-1"], "--seeds is -1; it must be from 0 to 2147483647"),
        (["--seeds", "0,-5"], "--seeds is -5; it must be from 0 to 2147483647"),
        (["--seeds", "4294967296"], "--seeds is 4294967296; it must be from 0 to 2147483647"),
        (["--seeds", "1.5"], "--seeds is '1.5'; it must be whole numbers with commas"),
        (["--seeds", "nan"], "--seeds is 'nan'; it must be whole numbers with commas"),
        (["--max-new-tokens", f"1{30 * '0'}"], f"--max-new-tokens is 1{30 * '0'}; it must be"),
        (["--max-sequences", "2147483648"], "--max-sequences is 2147483648; it must be from 0"),
        (["--stage-two-tries", "1001"], "--stage-two-tries is 1001; it must be at most 1000"),
        (
            ["--stage-two-tries", "900", "--late-factor", "0.1"],
            "--stage-two-tries is 900; at --threshold-factor 0.8 and --late-factor 0.1, θ falls",
        ),
        (
            ["--server", "http://x", "--api-key", "clé"],
            "character 2 of the API key is U+00E9; a key has ASCII characters only, and no spaces",
        ),
        (
            ["--server", "http://x", "--api-key", "two words"],
            "character 3 of the API key is U+0020",
        ),
        (["--server", "http://a..b"], "server URL is 'http://a..b'"),
        (
            ["--request-timeout", "nan"],
            "--request-timeout is nan; it must be a finite number of seconds",
        ),
        (
            ["--request-timeout", "0"],
            "--request-timeout is 0.0; it must be a finite number of seconds",
        ),
        (
            ["--silence-timeout", "inf"],
            "--silence-timeout is inf; it must be a finite number of seconds",
        ),
        (["--silence-timeout", "-1"], "--silence-timeout is -1.0; it must be a finite number of"),
        (["--temperature", "nan"], "--temperature is nan; it must be"),
        (["--temperature", "inf"], "--temperature is inf; it must be"),
        (["--top-p", "nan"], "--top-p is nan; it must be in (0, 1]"),
        (["--entropy-temperature", "nan"], "--entropy-temperature is nan; it must be"),
        (["--entropy-temperature", "0"], "--entropy-temperature is 0.0; it must be"),
        (["--extra-cap", "nan"], "--extra-cap is nan; it must be above 0 and finite"),
        (["--late-factor", "nan"], "--late-factor is nan; it must be in (0, 1]"),
        (["--threshold-factor=-inf"], "--threshold-factor is -inf; it must be in (0, 1]"),
        (["--top-k", "0"], "--top-k is 0; it must be"),
        (["--patience", "-1"], "--patience is -1; it must be"),
        (["--width", "0"], "--width is 0; it must be"),
        (["--max-tokens", "-1"], "--max-tokens is -1; it must be"),
        (["--extra-cap", "0"], "--extra-cap is 0.0; it must be above 0 and finite"),
        (["--extra-cap", "eager=x"], "--extra-cap is 'eager=x'; it must be a number, or eager=1"),
        (["--extra-cap", "init=1"], "unknown method of two stages 'init'; choose from eager_adapt"),
        (["--stage-two-tries", "0"], "--stage-two-tries is 0; it must be at least 1"),
        (["--priority", "nonsense"], "unknown priority 'nonsense'; "),
        (
            ["--stop", "consensus"],
            "--stop is consensus, which ends searches; add one of best_first",
        ),
        (["--verifier", "math"], "--verifier is 'math'; it must be module:function that can"),
        (["--verifier", "os:name"], "--verifier is 'os:name', a str; it must be a function"),
        (["--extra-cap", "inf"], "--extra-cap is inf; it must be above 0 and finite"),
        (["--extra-cap", "eager=1,eager=2"], "--extra-cap is eager,eager; each value may"),
        (["--parallel-sequences", "0"], "--parallel-sequences is 0; it must be at least the lar"),
        (["--verifier", "no.such:thing"], "--verifier is 'no.such:thing'; it must be module:fun"),
        (["--parallel-sequences", "3"], "--parallel-sequences is 3; it must be at least the lar"),
        (["--threshold-factor", "2"], "--threshold-factor is 2.0; it must be in (0, 1]"),
        (["--stage-two", "again"], "unknown stage two 'again'; choose from restart, resume"),
        (["--theta", "0.9,3"], r"--theta is 3.0; it must be in (0, ln 20 = 2.9957]"),
        (["--max-sequences", "0"], "--max-sequences is 0; it must be at least 1"),
        (["--limit", "0"], "--limit is 0; it must be at least 1"),
        (["--concurrency", "0"], "--concurrency is 0; it must be at least 1"),
        (["--temperature", "-1"], "--temperature is -1.0; it must be 0 (greedy)"),
        (["--control-temperatures", "hot"], "--control-temperatures is 'hot'; it must be numbers"),
        (
            ["--control-temperatures", "1,1"],
            "--control-temperatures is 1,1; each value may be given once",
        ),
        (["--control-temperatures", "0.6"], "--control-temperatures has 0.6, at which all methods"),
        (["--control-temperatures", "-1"], "--temperature is -1.0; it must be 0 (greedy)"),
        (["--top-p", "0"], "--top-p is 0.0; it must be in (0, 1]"),
        (["--max-new-tokens", "0"], "--max-new-tokens is 0; it must be at least 1"),
        (["--chunk-tokens", "0"], "--chunk-tokens is 0; it must be at least 1"),
        (["--task", "sudoku"], "unknown task 'sudoku'; "),
        (["--methods", "magic"], "unknown method 'magic'; choose from parallel, eager_init"),
        (["--methods", "parallel,"], "unknown method ''; choose from parallel, eager_init"),
        (["--methods", "parallel,parallel"], "--methods is parallel,parallel; each value may be"),
        (["--levels", "9"], "unknown level 9; "),
        (["--levels", "one"], "--levels is 'one'; it must be whole numbers with commas"),
        (["--server", "http://x", "--model", "m"], "--model and --server are mutually exclusive"),
        (["--tehta", "1"], "unrecognized arguments: --tehta 1"),
    ],
)
def test_wrong_arguments_get_one_sentence_before_anything_happens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run.main(arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


def test_the_script_itself_refuses_wrong_arguments_without_a_traceback(tmp_path: Path) -> None:
    done = python(str(ROOT / "evals/run.py"), "--task", "sudoku", "--output-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown task 'sudoku'; ")
    assert done.stderr.count("\n") == 1


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    script = (
        "import sys; from evals import run; run.parse_settings([], run.METHODS); "
        "print(sorted({'sglang', 'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert python("-c", script).stdout == "[]\n"


def test_the_modules_of_evals_shadow_no_other_package() -> None:
    """Running `python evals/run.py` puts their folder first on the path."""
    names = {path.stem for path in (ROOT / "evals").iterdir() if not path.name.startswith("_")}
    assert "analysis" in names
    assert not names & (set(importlib.metadata.packages_distributions()) | sys.stdlib_module_names)
