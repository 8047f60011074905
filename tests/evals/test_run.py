"""`evals/run.py` with hand-made methods: what it writes, and how it ends when things go wrong."""

import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonlines
import pytest

from eager_sgl.budget import Account
from eager_sgl.core import EagerConfig, PromptResult, TokenCounts
from eager_sgl.errors import AuthenticationError, EagerError, ServerUnreachableError
from eager_sgl.probe import ServerProfile
from evals import run
from evals.methods import Method
from evals.settings import API_KEY_VARIABLE, Settings
from evals.tasks import Sample
from tests.evals.build import result

ROOT = Path(__file__).parents[2]
PROFILE = ServerProfile("some/model", "0.5.23", 1024, 1, "tempered")
Generate = Callable[..., PromptResult]


def generate(
    endpoint: object, sample: Sample, config: EagerConfig, account: Account, on_wave: Any
) -> PromptResult:
    """Two sequences, one of them without an answer."""
    account.commit(2)
    on_wave(TokenCounts(generated=5, prompt=10, cached=9), 2)
    return result(["</think>01+01", "no answer"], max_sequences=config.max_sequences)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Generate], None]:
    """Puts a function in the place of both methods, and a connected server before them."""

    @contextlib.contextmanager
    def connected(settings: Settings, view: object) -> Iterator[Any]:
        yield SimpleNamespace(profile=PROFILE)

    monkeypatch.setattr(run, "connected", connected)

    def use(function: Generate) -> None:
        for name, branches in (("parallel", False), ("eager_init", True)):
            monkeypatch.setitem(run.METHODS, name, Method(name, function, branches))

    use(generate)
    return use


def lines(folder: Path) -> list[dict[str, Any]]:
    with jsonlines.open(folder / "results.jsonl") as reader:
        return list(reader)


@pytest.mark.usefixtures("scripted")
def test_a_run_writes_every_prompt_and_a_summary(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run.main(["--limit", "9", "--max-sequences", "4", "--output-dir", str(folder)]) == 0
    found = lines(folder)
    assert len({(line["method"], line["sample_id"]) for line in found}) == len(found) == 18
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary) == ["schema", "task", "model", "versions", "config", "rows"]
    assert (summary["schema"], summary["task"], summary["model"]) == (1, "countdown", "some/model")
    assert {"eager_sgl", "sglang", "torch", "python", "platform"} <= set(summary["versions"])
    assert [row["method"] for row in summary["rows"]] == ["parallel", "eager_init"]
    assert [row["theta"] is None for row in summary["rows"]] == [True, False]
    for row in summary["rows"]:
        assert (row["num_prompts"], row["num_sequences"]) == (9, 18)
        assert row["tokens_generated"] == 90
    config = json.loads((folder / "config.json").read_text())
    assert config == {name: value for name, value in summary.items() if name != "rows"}


@pytest.mark.usefixtures("scripted")
def test_what_is_written_is_judged(tmp_path: Path) -> None:
    arguments = ["--limit", "1", "--methods", "eager_init", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    (line,) = lines(tmp_path)
    answered, silent = line["sequences"]
    assert (answered["answer"], answered["vote"], silent["answer"], silent["vote"]) == (
        *("01+01", 0),
        *(None, None),
    )
    assert line["threshold"] == run.parse_settings([], ["eager_init"]).eager.threshold


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
    assert run.parse_settings(arguments, tuple(run.METHODS)).api_key == "sesame"
    assert run.main(arguments) == 0
    assert not [path for path in tmp_path.iterdir() if "sesame" in path.read_text()]


def test_every_prompt_may_spend_m(tmp_path: Path, scripted: Callable[[Generate], None]) -> None:
    granted = []

    def spend_all(
        endpoint: object, sample: Sample, config: EagerConfig, account: Account, on_wave: Any
    ) -> PromptResult:
        granted.append(account.granted)
        account.commit(account.granted)
        return result(["x"] * account.granted, max_sequences=config.max_sequences)

    scripted(spend_all)
    arguments = ["--limit", "8", "--max-sequences", "3", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    assert granted == [3] * 16


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
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_keeps_what_has_finished(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scripted: Callable[[Generate], None],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    failing = FailsAt(4, error)
    scripted(failing)
    arguments = ["--limit", "20", "--concurrency", "1", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == code
    kept = f"3 finished results are kept in {tmp_path}/results.jsonl"
    assert capsys.readouterr().err == f"error: {message}; {kept}\n"
    assert len(lines(tmp_path)) == 3
    assert not (tmp_path / "summary.json").exists()


def test_nothing_is_begun_after_a_failure(
    tmp_path: Path, scripted: Callable[[Generate], None]
) -> None:
    failing = FailsAt(1, EagerError("no"))
    scripted(failing)
    arguments = ["--limit", "100", "--concurrency", "1", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    assert failing.num_begun < 50


def test_what_finished_together_with_a_failure_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Callable[[Generate], None]
) -> None:
    together = threading.Barrier(16)

    def one_of_all_fails(*arguments: Any) -> PromptResult:
        if together.wait() == 0:
            raise EagerError("no")
        return generate(*arguments)

    scripted(one_of_all_fails)
    wait = run.wait
    monkeypatch.setattr(run, "wait", lambda pending, *when: wait(pending))
    arguments = ["--limit", "16", "--concurrency", "16", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 1
    assert len(lines(tmp_path)) == 15


@pytest.mark.usefixtures("scripted")
def test_an_explicit_folder_with_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--limit", "2", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    before = (tmp_path / "results.jsonl").read_bytes()
    capsys.readouterr()
    assert run.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path} holds the results of an earlier run")
    assert message.count("\n") == 1
    assert (tmp_path / "results.jsonl").read_bytes() == before


@pytest.mark.usefixtures("scripted")
def test_the_default_folder_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["--limit", "2"]) == 0
    assert run.main(["--limit", "3"]) == 0
    assert len(lines(tmp_path / "runs" / "quickstart.1")) == 4
    assert len(lines(tmp_path / "runs" / "quickstart")) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--theta", "0"], r"threshold is 0.0; it must be in (0, ln 20 = 2.9957]"),
        (["--theta", "3.0"], r"threshold is 3.0; it must be in (0, ln 20 = 2.9957]"),
        (["--theta", "nan"], r"threshold is nan; it must be in (0, ln 20 = 2.9957]"),
        (["--theta", "1.1", "--top-k", "3"], "threshold is 1.1; it must be in (0, ln 3 = 1.0986]"),
        (["--theta", "high"], "argument --theta: invalid float value: 'high'"),
        (["--max-sequences", "0"], "max_sequences is 0; it must be at least 1"),
        (["--limit", "0"], "limit is 0; it must be at least 1"),
        (["--concurrency", "0"], "concurrency is 0; it must be at least 1"),
        (["--temperature", "-1"], "temperature is -1.0; it must be 0 (greedy)"),
        (["--top-p", "0"], "top_p is 0.0; it must be in (0, 1]"),
        (["--max-new-tokens", "0"], "max_new_tokens is 0; it must be at least 1"),
        (["--chunk-tokens", "0"], "chunk_tokens is 0; it must be at least 1"),
        (["--task", "sudoku"], "unknown task 'sudoku'; there is countdown"),
        (["--methods", "magic"], "unknown method 'magic'; there is parallel, eager_init"),
        (["--methods", "parallel,"], "unknown method ''; there is parallel, eager_init"),
        (["--methods", "parallel,parallel"], "methods is parallel,parallel; each may be named"),
        (["--levels", "9"], "unknown level 9; there is 1, 2, 3, 4"),
        (["--levels", "one"], "levels is 'one'; it must be whole numbers with commas"),
        (["--server", "http://x", "--model", "m"], "--model is of the server that is started"),
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
    assert done.stderr == "error: unknown task 'sudoku'; there is countdown\n"


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    script = (
        "import sys; from evals import run; run.parse_settings([], tuple(run.METHODS)); "
        "print(sorted({'sglang', 'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert python("-c", script).stdout == "[]\n"


def test_the_modules_of_evals_shadow_no_other_package() -> None:
    """Running `python evals/run.py` puts their folder first on the path."""
    own = {path.stem for path in (ROOT / "evals").iterdir() if not path.name.startswith("_")}
    assert "metrics" in own
    assert not own & (set(importlib.metadata.packages_distributions()) | sys.stdlib_module_names)
