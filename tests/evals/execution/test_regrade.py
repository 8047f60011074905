"""Judgements follow the answers, graders, levels and judges there are, or a run is refused."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import evals.records.lines
from eager_sgl.core import PromptResult
from eager_sgl.errors import AuthenticationError
from evals import run
from evals.config import parse as read_settings
from evals.execution import evaluation
from evals.execution.calls import Call
from evals.records import identity, judging
from evals.tasks import find_task
from evals.tasks.prompt_file import PromptFile
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, key_of, lines

EVALS = Path(identity.__file__).parents[1]

SAMPLES = [
    {"id": "a", "prompt": "2 + 2?", "answer": "4", "level": 1},
    {"id": "b", "prompt": "Half of 3?", "answer": "1.5", "level": 1, "grader": "math"},
    {"id": "c", "prompt": "Which?", "answer": "B", "level": 2, "grader": "letter"},
]
TEXTS = [f"so</think>\\boxed{{{text}}}" for text in ("4.0", "B", "\\frac{3}{2}", "4")]


def answering(call: Call, max_texts: int = 4) -> PromptResult:
    """As many of the four texts as the prompt may have, and at most `max_texts`."""
    texts = TEXTS[: min(max_texts, call.account.granted)]
    call.account.commit(len(texts))
    return result(texts, max_sequences=call.method.max_sequences)


class Run:
    """A run on prompts of one's own that are edited between two commands."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.file, self.folder = folder / "own.jsonl", folder / "run"
        self.samples = [dict(sample) for sample in SAMPLES]
        self._arguments = arguments or ("--methods", "parallel,eager_init")
        self.write()

    def write(self) -> None:
        self.file.write_text("".join(json.dumps(sample) + "\n" for sample in self.samples))

    def edit(self, number: int, **fields: Any) -> None:
        self.samples[number] |= fields
        self.write()

    def __call__(self, *more: str) -> int:
        options = (
            "--task",
            str(self.file),
            "--max-sequences",
            "4",
            "--output-dir",
            str(self.folder),
        )
        return run.main([*options, *self._arguments, *more])

    def regrade(self, *more: str) -> int:
        return run.main(["--regrade", "--output-dir", str(self.folder), *more])

    def correct(self) -> dict[str, list[bool]]:
        return {
            line["sample_id"]: [sequence["correct"] for sequence in line["sequences"]]
            for line in lines(self.folder)
            if line["method"] == "parallel"
        }


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


@pytest.fixture
def user_run(tmp_path: Path, scripted: Scripted) -> Run:
    scripted(answering)
    made = Run(tmp_path)
    assert made() == 0
    return made


@pytest.mark.parametrize(
    ("edits", "named"),
    [
        ([(0, {"answer": "5"})], ["answer of 'a' 4 → 5"]),
        ([(0, {"grader": "text"})], ["grader of 'a' math → text"]),
        ([(2, {"grader": "text"})], ["grader of 'c' letter → text"]),
        ([(0, {"level": 3}), (1, {"level": 3})], ["level of 'a' 1 → 3", "level of 'b' 1 → 3"]),
        ([(n, {"level": None}) for n in range(3)], ["level of 'c' 2 → none"]),
        ([(0, {"answer": "x" * 50})], ["answer of 'a' 4 → sha256:"]),
        (
            [(0, {"level": 2, "grader": "text"})],
            ["level of 'a' 1 → 2", "grader of 'a' math → text"],
        ),
    ],
)
def test_changed_judging_is_refused_until_the_run_is_regraded(
    user_run: Run, capsys: pytest.CaptureFixture[str], edits: list[Any], named: list[str]
) -> None:
    before = (user_run.folder / "results.jsonl").read_bytes()
    for number, fields in edits:
        user_run.edit(number, **fields)
    assert user_run() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--regrade" in error
    for text in named:
        assert text in error
    assert (user_run.folder / "results.jsonl").read_bytes() == before
    assert user_run.regrade() == 0
    assert user_run() == 0
    assert (user_run.folder / "results.jsonl").read_bytes() != before


@pytest.mark.parametrize(
    "edits",
    [
        [(0, {"answer": "3/2"}), (2, {"answer": "A"})],
        [(0, {"grader": "text", "answer": "\\boxed{4.0}"}), (1, {"answer": "2"})],
        [(0, {"level": 2}), (2, {"level": 1, "answer": "C"})],
    ],
)
def test_a_regraded_run_equals_a_new_one(user_run: Run, tmp_path: Path, edits: list[Any]) -> None:
    for number, fields in edits:
        user_run.edit(number, **fields)
    assert user_run.regrade() == 0
    other = tmp_path / "other"
    assert user_run("--output-dir", str(other)) == 0
    measured = {"seconds": 0, "elapsed": 0, "session": 0}
    regraded, expected = (
        sorted((key_of(line), line | measured) for line in lines(folder))
        for folder in (user_run.folder, other)
    )
    assert [key for key, _ in regraded] == [key for key, _ in expected]
    assert [line for _, line in regraded] == [line for _, line in expected]
    rows, others = (summary(folder)["rows"] for folder in (user_run.folder, other))
    for row in (*rows, *others):
        row.pop("wall_seconds")
    assert rows == others
    assert summary(user_run.folder)["config"] == summary(other)["config"]


def test_changed_judgements_are_counted(user_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = (user_run.folder / "results.jsonl").read_bytes()
    assert user_run.regrade() == 0
    assert "judged 24 sequences of 6 results again: 0 judgements changed" in capsys.readouterr().out
    assert (user_run.folder / "results.jsonl").read_bytes() == before
    user_run.edit(0, answer="3/2")
    assert user_run.regrade() == 0
    said = capsys.readouterr().out
    # Of both methods: the boxes with a four are wrong now, that with a half of three is right.
    assert (
        "6 judgements changed (2 now right, 4 now wrong, 0 no longer judged, 0 otherwise)" in said
    )
    assert user_run.correct()["a"] == [False, False, True, False]
    assert (user_run.folder / "report.html").exists()
    user_run.edit(0, level=7)
    assert user_run.regrade() == 0
    assert "levels of 1 prompts changed" in capsys.readouterr().out


def test_regrading_starts_no_server(user_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a server was asked for")

    monkeypatch.setattr(evaluation, "hosted", refuse)
    assert user_run.regrade() == 0
    assert user_run("--regrade", "--server", "http://127.0.0.1:9") == 0


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda samples: samples.pop(1), "'b' is gone"),
        (lambda samples: samples[2].update(prompt="Which one?"), "'c' has another prompt"),
        (lambda samples: samples[0].update(id="z"), "'a' is gone"),
        (
            lambda samples: samples[0].update(prompt=[{"role": "system", "content": "2 + 2?"}]),
            "'a' has another prompt",
        ),
    ],
)
def test_sequences_of_other_prompts_are_not_judged(
    user_run: Run, capsys: pytest.CaptureFixture[str], edit: Any, named: str
) -> None:
    before = (user_run.folder / "results.jsonl").read_bytes()
    edit(user_run.samples)
    user_run.write()
    assert user_run.regrade() == 2
    assert named in capsys.readouterr().err
    assert (user_run.folder / "results.jsonl").read_bytes() == before
    assert user_run() == 2, "nor is anything added to them"


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("judges_digest", lambda: "0123", "judges {} → 0123"),
        ("library_version", {"sympy": "0.1"}.get, "sympy {} → 0.1"),
    ],
)
def test_a_change_of_judges_is_named(
    user_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: Any,
    named: str,
) -> None:
    actual = getattr(identity, name)
    before = actual() if name == "judges_digest" else actual("sympy")
    monkeypatch.setattr(judging, name, lambda *given: value(*given) or actual(*given))
    assert user_run() == 2
    assert named.format(before) in capsys.readouterr().err
    assert user_run.regrade() == 0
    assert user_run() == 0


def test_only_graders_that_use_a_library_depend_on_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Scripted
) -> None:
    scripted(answering)
    user_run = Run(tmp_path)
    user_run.samples = [
        user_run.samples[2],
        user_run.samples[2] | {"id": "d", "answer": "B", "grader": "text"},
    ]
    user_run.write()
    assert user_run() == 0
    monkeypatch.setattr(judging, "library_version", lambda name: "another")
    assert user_run() == 0


def test_the_digest_of_the_judges_is_of_their_files() -> None:
    assert identity.judges_digest() == identity.judges_digest.__wrapped__()
    files = {path.name for folder in identity.JUDGES for path in (EVALS / folder).rglob("*.py")}
    assert {
        "mathematics.py",
        "letters.py",
        "code.py",
        "countdown_rules.py",
        "prompt_file.py",
    } <= files


def as_an_earlier_version_wrote_it(folder: Path) -> None:
    regraded = lines(folder)
    for line in regraded:
        del line["judged_by"]
        for sequence in line["sequences"]:
            del sequence["final_text"]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in regraded))


def test_a_run_without_judging_information_continues_with_a_warning(
    user_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    as_an_earlier_version_wrote_it(user_run.folder)
    capsys.readouterr()
    assert user_run() == 0
    said = capsys.readouterr().out
    assert said.count("6 results are of an earlier version, which did not write what") == 1
    user_run.edit(0, answer="3/2")
    assert user_run.regrade() == 0
    assert user_run.correct()["a"] == [False, False, True, False], (
        "the end of reasoning is in the text"
    )
    capsys.readouterr()
    assert user_run() == 0
    assert "earlier version" not in capsys.readouterr().out
    user_run.edit(0, answer="4")
    assert user_run() == 2


def test_levels_are_compared_without_judging_information(
    user_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    as_an_earlier_version_wrote_it(user_run.folder)
    user_run.edit(2, level=3)
    assert user_run() == 2
    assert "level of 'c' 2 → 3" in capsys.readouterr().err


def test_ends_of_reasoning_that_leave_no_text_are_reported(
    user_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    as_an_earlier_version_wrote_it(user_run.folder)
    header = json.loads((user_run.folder / "config.json").read_text())
    header["config"]["eager"]["reasoning_end"] = "<special>"
    (user_run.folder / "config.json").write_text(json.dumps(header))
    assert user_run.regrade() == 0
    assert "'<special>' is in none of their texts" in capsys.readouterr().out


@pytest.mark.parametrize("stops", ["write", "rename"])
def test_a_crash_in_the_middle_loses_nothing(
    user_run: Run, monkeypatch: pytest.MonkeyPatch, stops: str
) -> None:
    before = (user_run.folder / "results.jsonl").read_bytes()
    user_run.edit(0, answer="3/2")

    def crash(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        where, name = (evals.records.lines, "to_line") if stops == "write" else (os, "replace")
        patched.setattr(where, name, crash)
        with pytest.raises(MemoryError):
            user_run.regrade()
    assert (user_run.folder / "results.jsonl").read_bytes() == before
    assert user_run() == 2, "the old judgements are not taken for new ones"
    assert user_run.regrade() == 0
    assert user_run() == 0
    assert user_run.correct()["a"] == [False, False, True, False]


def test_failed_judgements_are_counted(
    user_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("no judge")

    # The file is read, whose answers are judged too, before the judge fails.
    task = find_task(str(user_run.file))
    monkeypatch.setattr(read_settings, "find_task", lambda name, copy: task)
    monkeypatch.setattr(PromptFile, "score", fails)
    assert user_run.regrade() == 0
    assert "24 no longer judged" in capsys.readouterr().out


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell starts what runs in the background with SIGINT ignored, test suites included."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_an_interruption_loses_nothing(
    user_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    word: str,
) -> None:
    before = (user_run.folder / "results.jsonl").read_bytes()

    def interrupt(*arguments: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)
        raise AssertionError(f"signal {number} was ignored")

    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "map", interrupt)
        assert user_run.regrade() == 128 + number
    assert capsys.readouterr().err.startswith(f"error: {word}; nothing is lost")
    assert (user_run.folder / "results.jsonl").read_bytes() == before


def test_bad_lines_move_aside_and_are_reported(
    user_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    results = user_run.folder / "results.jsonl"
    number = results.read_bytes().count(b"\n") + 1
    with results.open("ab") as file:
        file.write(b"{]\n")
    capsys.readouterr()
    assert user_run.regrade() == 0
    assert f"warning: moved line {number} (no JSON) of" in capsys.readouterr().out
    assert (user_run.folder / "results.jsonl.bad").exists()


def test_what_follows_another_end_of_reasoning_is_judged(
    user_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    user_run.edit(0, grader="text", answer="\\boxed{4.0}")
    assert user_run.regrade() == 0
    assert user_run.correct()["a"] == [True, False, False, False]
    assert user_run("--reasoning-end", "none") == 2
    error = capsys.readouterr().err
    assert "eager.reasoning_end </think> → none" in error
    assert "--regrade judges it by" in error
    assert user_run.regrade("--reasoning-end", "none") == 0
    assert user_run.correct()["a"] == [False, False, False, False]
    assert user_run("--reasoning-end", "none") == 0
    assert user_run.regrade("--reasoning-end", "</think>") == 0
    assert user_run.correct()["a"] == [True, False, False, False]


def test_another_file_with_the_same_prompts_may_judge(user_run: Run, tmp_path: Path) -> None:
    corrected = tmp_path / "corrected.jsonl"
    user_run.file.rename(corrected)
    assert user_run.regrade("--task", str(corrected)) == 0
    user_run.file = corrected
    assert user_run() == 0
    assert summary(user_run.folder)["task"] == str(corrected)


def test_answers_may_be_added_later(tmp_path: Path, scripted: Scripted) -> None:
    scripted(answering)
    user_run = Run(tmp_path)
    user_run.samples = [{"id": "a", "prompt": "2 + 2?"}, {"id": "b", "prompt": "3 / 2?"}]
    user_run.write()
    assert user_run() == 0
    assert summary(user_run.folder)["rows"][0]["pass_at_k"] is None
    user_run.edit(0, answer="4")
    user_run.edit(1, answer="1.5")
    assert user_run() == 2
    assert user_run.regrade() == 0
    assert summary(user_run.folder)["rows"][0]["pass_at_k"] == 1
    assert user_run() == 0


def test_grants_do_not_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(partial(answering, max_texts=3))
    user_run = Run(tmp_path, "--methods", "eager_init,eager")
    user_run.samples[0]["answer"] = "77"
    user_run.write()
    assert user_run() == 0
    eager = {
        line["sample_id"]: line for line in lines(user_run.folder) if line["method"] == "eager"
    }
    assert eager["a"]["stage_two"]["extra_used"] > 0
    user_run.edit(0, answer="4")
    capsys.readouterr()
    assert user_run.regrade() == 0
    assert "1 prompts are solved after their first stage where they were not" in (
        capsys.readouterr().out
    )
    assert {line["solved"] for line in lines(user_run.folder) if line["sample_id"] == "a"} == {
        False
    }
    regraded = {
        line["sample_id"]: line for line in lines(user_run.folder) if line["method"] == "eager"
    }
    assert regraded["a"]["stage_two"] == eager["a"]["stage_two"]
    assert user_run() == 0


@pytest.mark.parametrize("stops_at", range(2, 8))
def test_an_unfinished_run_continues_after_regrading(
    tmp_path: Path, scripted: Scripted, stops_at: int
) -> None:
    user_run = Run(tmp_path, "--methods", "eager_init,eager", "--concurrency", "1")
    user_run.samples[0]["answer"] = user_run.samples[1]["answer"] = "77"
    user_run.write()
    begun = []

    def stopping(call: Call) -> PromptResult:
        begun.append(call.sample.id)
        if len(begun) == stops_at:
            raise AuthenticationError("stopped")
        return answering(call, max_texts=3)

    scripted(stopping)
    assert user_run() == (1 if stops_at < 6 else 0)
    user_run.edit(0, answer="4")
    user_run.edit(1, answer="1.5")
    assert user_run.regrade() == 0
    scripted(partial(answering, max_texts=3))
    assert user_run() == 0, "the budget adds up"
    assert len(lines(user_run.folder)) == 6


@pytest.mark.parametrize(
    ("methods", "continues"), [("eager_init,eager", False), ("parallel", True)]
)
def test_prompts_that_wait_for_a_grant_keep_their_order(
    tmp_path: Path, scripted: Scripted, methods: str, continues: bool
) -> None:
    user_run = Run(tmp_path, "--methods", methods, "--concurrency", "1")
    begun = []

    def stopping(call: Call) -> PromptResult:
        begun.append(call.sample.id)
        if len(begun) == 3:
            raise AuthenticationError("stopped")
        return answering(call, max_texts=3)

    scripted(stopping)
    assert user_run() == 1
    user_run.edit(0, level=5)
    assert user_run.regrade() == 0
    scripted(partial(answering, max_texts=3))
    assert user_run() == (0 if continues else 2), "levels order the prompts"


def test_searches_that_judgements_ended_do_not_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Scripted
) -> None:
    scripted(answering)
    user_run = Run(tmp_path, "--methods", "best_first", "--stop", "verifier")
    assert user_run() == 0
    user_run.edit(0, answer="3/2")
    capsys.readouterr()
    assert user_run.regrade() == 0
    assert "searches remain as long as the earlier judgements made them (--stop verifier)" in (
        capsys.readouterr().out
    )


def test_programs_of_the_model_need_permission(
    user_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = copy(find_task(str(user_run.file)))
    object.__setattr__(task, "needs_isolation", True)
    monkeypatch.setattr(read_settings, "find_task", lambda name, copy: task)
    assert user_run.regrade() == 2
    assert "allow it with --allow-code-execution" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output-dir", "none"], "none holds no run; give the folder of one"),
        (
            ["--output-dir", "run", "--report-only"],
            "--regrade and --report-only are mutually",
        ),
        (["--output-dir", "run", "--task", "absent.jsonl"], "cannot read absent.jsonl"),
        (["--output-dir", "run", "--task", "countdown"], "run holds sequences of prompts that cou"),
        (
            ["--output-dir", "run", "--reasoning-end", "</wrong>"],
            "--reasoning-end is '</wrong>', w",
        ),
        (["--output-dir", "empty"], "empty holds no results that could be judged again"),
    ],
)
def test_a_folder_that_cannot_be_regraded_gets_one_sentence(
    user_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(user_run.folder.parent)
    Path("empty").mkdir()
    Path("empty/config.json").write_bytes((user_run.folder / "config.json").read_bytes())
    capsys.readouterr()
    try:
        code = run.main(["--regrade", *arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
