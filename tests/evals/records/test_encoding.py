"""Nothing is lost because a text holds what UTF-8 does not have."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from eager_sgl.core import PromptResult
from evals import run
from evals.execution.calls import Call
from evals.grading.score import Score
from evals.records.files import encoded, replace_file, to_line, write_whole
from evals.tasks.countdown import Countdown
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, lines

TEXTS = [
    "make \ud83d 2+2",
    "\udc00",
    "a back\\\udfffslash",
    "\ude00\ud83d",
    "\ud800\u2028 \N{GRINNING FACE} θ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_written_as_valid_json(tmp_path: Path, text: str) -> None:
    written = text.encode("utf-8", "backslashreplace").decode()
    assert orjson.loads(encoded(to_line({text: [text]}))) == {written: [written]}
    write_whole(tmp_path / "file", {"text": text})
    assert orjson.loads((tmp_path / "file").read_bytes()) == {"text": written}


def test_other_characters_are_written_as_they_are() -> None:
    assert encoded(to_line({"θ": "\N{GRINNING FACE}"})) == '{"θ": "\N{GRINNING FACE}"}\n'.encode()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, ["old"])

    def texts() -> Any:
        yield "new"
        raise MemoryError

    with pytest.raises(MemoryError):
        replace_file(path, texts())
    assert path.read_text() == "old"


@pytest.mark.parametrize("text", TEXTS)
def test_a_result_with_half_a_character_is_kept_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Scripted, text: str
) -> None:
    def generate(call: Call) -> PromptResult:
        call.account.commit(2)
        return result([f"so</think>{text}", text], max_sequences=call.method.max_sequences)

    scripted(generate)
    said = Score(False, text, f"not {text}")
    monkeypatch.setattr(Countdown, "score", lambda self, sample, given: said)
    arguments = ["--limit", "3", "--max-sequences", "4", "--methods", "parallel,eager_init"]
    assert run.main([*arguments, "--output-dir", str(tmp_path)]) == 0
    written = text.encode("utf-8", "backslashreplace").decode()
    for line in lines(tmp_path):
        assert line["sequences"][1]["text"] == written
        assert line["sequences"][0]["explanation"] == f"not {written}"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").endswith("</html>")
    assert run.main([*arguments, "--output-dir", str(tmp_path)]) == 0
    assert run.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    assert run.main(["--regrade", "--output-dir", str(tmp_path)]) == 0


def test_half_a_character_in_a_prompt_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(r'{"id":"a","prompt":"make \ud83d 2+2","answer":"4"}')
    with pytest.raises(SystemExit) as exit_:
        run.main(["--task", str(path), "--output-dir", str(tmp_path / "run")])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: line 1 of {path}: prompt holds '\\ud83d', half of a")
    assert not (tmp_path / "run").exists()


def test_half_a_character_in_a_copy_of_a_dataset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "countdown.jsonl"
    path.write_text(r'{"id": "a\udc00", "level": 1, "numbers": [1, 2], "target": 3}')
    with pytest.raises(SystemExit) as exit_:
        run.main(["--dataset", str(path), "--output-dir", str(tmp_path / "run")])
    assert exit_.value.code == 2
    assert "surrogate in string: line 1" in capsys.readouterr().err
