"""The results of a run: nothing lost, nothing doubled, only valid JSON."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonlines
import pytest

from eager_sgl.core import DeferredBranch
from evals.records import lines
from evals.records.files import StoreError, write_whole
from evals.records.record import PromptRecord, StageTwo
from evals.records.results import ResultStore, read_records, read_results
from tests.evals.fakes.build import BRANCH, record


def read(path: Path) -> list[dict[str, Any]]:
    with jsonlines.open(path) as lines:
        return list(lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def write(path: Path, *sample_ids: str) -> None:
    with ResultStore(path) as store:
        for sample_id in sample_ids:
            store.append(record([True], sample_id=sample_id))


def test_a_line_contains_the_whole_tree(path: Path) -> None:
    with ResultStore(path) as store:
        store.append(record([True, False], method="eager_init"))
    (line,) = read(path)
    first, second = line["sequences"]
    assert (first["parent"], first["branch"]) == (None, None)
    assert second["parent"] == 0
    assert second["branch"] == {
        "position": BRANCH.position,
        "entropy": BRANCH.entropy,
        "token_ids": list(BRANCH.token_ids),
        "probabilities": list(BRANCH.probabilities),
        "logprobs": list(BRANCH.logprobs),
        "sampled": BRANCH.sampled,
        "priority": None,
    }
    assert (first["correct"], second["correct"]) == (True, False)
    assert first["token_ids"] == [1, 2]
    counts = line["counts"]
    assert counts["discarded"] == counts["generated"] - counts["unique"] + counts["forced"]
    assert counts["prefilled"] == counts["prompt"] - counts["cached"]


def test_a_result_is_on_disk_before_the_next(path: Path) -> None:
    """Killed right after a prompt has finished, a run still has that prompt."""
    script = (
        "import os, signal; from pathlib import Path; "
        "from evals.records.results import ResultStore; "
        "from tests.evals.fakes.build import record; "
        f"store = ResultStore(Path({str(path)!r})); store.append(record([True])); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read(path)) == 1


def test_numbers_that_json_lacks_become_null(path: Path) -> None:
    branch = replace(BRANCH, logprobs=(0.0, float("-inf")))
    broken = record([True, True], method="eager_init")
    child = replace(broken.sequences[1], branch=branch)
    broken = replace(broken, sequences=(broken.sequences[0], child))
    with ResultStore(path) as store:
        store.append(broken)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads(path.read_text(), parse_constant=refuse)
    assert line["sequences"][1]["branch"]["logprobs"] == [0.0, None]
    assert read_records(path) == [broken]
    summary = path.with_name("summary.json")
    write_whole(summary, {"stderr": float("nan"), "rows": [{"value": float("inf")}]})
    content = json.loads(summary.read_text(), parse_constant=refuse)
    assert content == {"stderr": None, "rows": [{"value": None}]}


def test_a_whole_file_is_replaced_whole(path: Path) -> None:
    write_whole(path, {"rows": [1]})
    with pytest.raises(TypeError):
        write_whole(path, {"rows": [object()]})
    assert json.loads(path.read_text()) == {"rows": [1]}


def test_a_record_is_read_as_it_was_written(path: Path) -> None:
    whole = record(
        [True, False],
        method="eager",
        peak_entropy=1.5,
        stage_two=StageTwo("resume", True, 3, 2, 0.56, generated=40),
        deferred=(DeferredBranch(1, BRANCH),),
        session=2,
        elapsed=3.5,
    )
    assert PromptRecord.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_a_new_session_appends_to_the_results(path: Path) -> None:
    write(path, "a", "b")
    with ResultStore(path) as store:
        assert [sample_id for _, sample_id in store.records] == ["a", "b"]
        assert (store.session, store.num_torn) == (1, 0)
        store.append(record([False], sample_id="c", session=store.session))
    assert [line["sample_id"] for line in read(path)] == ["a", "b", "c"]
    with ResultStore(path) as store:
        assert store.session == 2


def test_a_torn_last_line_is_cut_off(path: Path) -> None:
    write(path, "a", "b")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        with ResultStore(path) as store:
            assert (len(store.records), store.num_torn) == (1, end - first)
        assert path.read_bytes() == whole[:first]


def test_reading_leaves_a_file_that_another_process_writes(path: Path) -> None:
    write(path, "a")
    torn = path.read_bytes() + b'{"method": "par'
    path.write_bytes(torn)
    assert [record.sample_id for record in read_records(path)] == ["a"]
    assert path.read_bytes() == torn


BAD_LINES = [
    (b"garbage", "no JSON"),
    (b"", "blank"),
    (b"  \r", "blank"),
    (b"one\rother\x0bline", "no JSON"),
    (b"[1]", "no JSON object"),
    (b"1", "no JSON object"),
    (b"null", "no JSON object"),
    (b"{}", "no 'sequences'"),
    (b"\0\0", "no JSON"),
    (b"\xff", "no JSON"),
    (b"[" * 100_000, "maximum recursion depth"),
    (b'{"seconds": NaN}', "no JSON"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_moves_aside_with_its_number(path: Path, line: bytes, reason: str) -> None:
    write(path, "a", "b")
    line_a, other, end = path.read_bytes().split(b"\n")
    content = b"\n".join([line_a, line, other, end])
    path.write_bytes(content)
    records, bad = read_results(path)
    assert [record.sample_id for record in records] == ["a", "b"]
    assert path.read_bytes() == content, "a reader changes nothing"
    with ResultStore(path) as store:
        assert [sample_id for _, sample_id in store.records] == ["a", "b"]
        assert [line.number for line in store.bad] == [line.number for line in bad] == [2]
        store.append(record([True], sample_id="c"))
    (aside,) = read(path.with_name("results.jsonl.bad"))
    assert (aside["line"], aside["reason"][: len(reason)]) == (2, reason)
    assert aside["content"].encode()[:20] == line.replace(b"\xff", b"\\xff")[:20]
    assert [line["sample_id"] for line in read(path)] == ["a", "b", "c"]
    assert read_results(path)[1] == []


def changed(field: str, value: Any) -> dict[str, Any]:
    """A line in which one field, given by its path, has another value."""
    whole = record([True, False], method="eager_init", deferred=(DeferredBranch(0, BRANCH),))
    line: dict[str, Any] = json.loads(json.dumps(whole.to_json()))
    *names, last = [int(name) if name.isdigit() else name for name in field.split(".")]
    parent: Any = line
    for name in names:
        parent = parent[name]
    parent[last] = value
    return line


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", 7),
        ("sample_id", None),
        ("seconds", "0.5"),
        ("seconds", True),
        ("max_sequences", 4.5),
        ("prompt", "make"),
        ("prompt.0.content", 1),
        ("prompt_ids", [5, "6"]),
        ("counts", None),
        ("counts.generated", "10"),
        ("sequences", []),
        ("sequences", {}),
        ("sequences.0", None),
        ("sequences.0.token_ids", [1, None]),
        ("sequences.0.correct", 1),
        ("sequences.0.finish_reason", "tired"),
        ("sequences.0.parent", 1),
        ("sequences.1.parent", 5),
        ("sequences.1.branch", None),
        ("sequences.1.branch", [1]),
        ("sequences.1.branch.position", 99),
        ("sequences.1.branch.logprobs", [0.5]),
        ("sequences.1.vote", 2),
        ("deferred.0.sequence", 2),
        ("stage_two", "restart"),
        ("entropy_histogram", {"threshold": 1}),
        ("unheard_of", 1),
    ],
)
def test_reading_refuses_wrong_types_and_references(path: Path, field: str, value: Any) -> None:
    path.write_text(
        json.dumps(changed("seed", 1)) + "\n" + json.dumps(changed(field, value)) + "\n"
    )
    with ResultStore(path) as store:
        assert [(line.number, bool(line.reason)) for line in store.bad] == [(2, True)]
        assert len(store.records) == 1


def test_a_doubled_line_moves_aside_and_the_first_counts(path: Path) -> None:
    write(path, "a")
    line = path.read_bytes()
    path.write_bytes(line + line.replace(b'"seconds": 0.5', b'"seconds": 0.7'))
    with ResultStore(path) as store:
        (kept,) = store.records.values()
        assert kept.seconds == 0.5
        assert [line.reason for line in store.bad] == ["the result of line 1 again"]
    assert path.read_bytes() == line


def test_a_line_of_another_run_moves_aside(path: Path) -> None:
    write(path, "a", "b")
    key = (record([True]).cell, "a")
    with ResultStore(path, {key}) as store:
        assert list(store.records) == [key]
        assert [line.number for line in store.bad] == [2]


def test_a_torn_line_and_a_bad_line_in_one_file(path: Path) -> None:
    write(path, "a", "b")
    line_a, other, _ = path.read_bytes().split(b"\n")
    path.write_bytes(line_a + b"\n\n" + other + b"\n" + line_a[:40])
    with ResultStore(path) as store:
        assert (len(store.records), len(store.bad), store.num_torn) == (2, 1, 40)
    assert path.read_bytes() == line_a + b"\n" + other + b"\n"


def test_a_full_disk_gets_a_whole_line_or_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, "a")
    before = path.read_bytes()

    def fill(file: int, data: bytes) -> None:
        os.write(file, data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ResultStore(path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(lines, "_write", fill)
            with pytest.raises(StoreError, match="No space left on device"):
                store.append(record([True], sample_id="b"))
        assert path.read_bytes() == before
        store.append(record([True], sample_id="b"))
    assert [line["sample_id"] for line in read(path)] == ["a", "b"]


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cannot use {tmp_path}"):
        ResultStore(tmp_path)
