"""The folder of a run: nothing lost, nothing mixed, only valid JSON."""

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

from evals.store import ResultStore, StoreError, prepare_folder
from tests.evals.build import BRANCH, record


def read(path: Path) -> list[dict[str, Any]]:
    with jsonlines.open(path) as lines:
        return list(lines)


def test_a_line_holds_the_whole_tree(tmp_path: Path) -> None:
    with ResultStore(tmp_path) as store:
        store.append(record([True, False], method="eager_init"))
    (line,) = read(tmp_path / "results.jsonl")
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
    }
    assert (first["correct"], second["correct"]) == (True, False)
    assert first["token_ids"] == [1, 2]
    counts = line["counts"]
    assert counts["discarded"] == counts["generated"] - counts["unique"] + counts["hand_set"]
    assert counts["prefilled"] == counts["prompt"] - counts["cached"]


def test_a_result_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    """Killed right after a prompt has finished, a run still has that prompt."""
    script = (
        "import os, signal; from pathlib import Path; from evals.store import ResultStore; "
        "from tests.evals.build import record; "
        f"store = ResultStore(Path({str(tmp_path)!r})); store.append(record([True])); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read(tmp_path / "results.jsonl")) == 1


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    branch = replace(BRANCH, logprobs=(0.0, float("-inf")))
    broken = record([True, True], method="eager_init")
    child = replace(broken.sequences[1], branch=branch)
    with ResultStore(tmp_path) as store:
        store.append(replace(broken, sequences=(broken.sequences[0], child)))
        store.write_summary({"stderr": float("nan"), "rows": [{"value": float("inf")}]})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (tmp_path / "results.jsonl").read_text()
    line = json.loads(text, parse_constant=refuse)
    assert line["sequences"][1]["branch"]["logprobs"] == [0.0, None]
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert summary == {"stderr": None, "rows": [{"value": None}]}


def test_a_summary_is_replaced_whole(tmp_path: Path) -> None:
    with ResultStore(tmp_path) as store:
        store.write_summary({"rows": [1]})
        with pytest.raises(TypeError):
            store.write_summary({"rows": [object()]})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"rows": [1]}


def finished_run(folder: Path) -> str:
    with ResultStore(folder) as store:
        store.append(record([True]))
    return (folder / "results.jsonl").read_text()


def test_earlier_results_are_refused(tmp_path: Path) -> None:
    content = finished_run(tmp_path)
    with pytest.raises(StoreError, match=r"holds the results of an earlier run; give another"):
        prepare_folder(tmp_path, set_aside=False)
    assert (tmp_path / "results.jsonl").read_text() == content


def test_earlier_results_are_set_aside_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    for number in (1, 2):
        prepare_folder(folder, set_aside=True)
        content = finished_run(folder)
        aside = prepare_folder(folder, set_aside=True)
        assert aside == tmp_path / f"quickstart.{number}"
        assert (aside / "results.jsonl").read_text() == content
        assert not list(folder.iterdir())


def test_a_run_that_brought_nothing_is_no_obstacle(tmp_path: Path) -> None:
    ResultStore(tmp_path).__exit__(None, None, None)
    assert prepare_folder(tmp_path, set_aside=False) is None


@pytest.mark.parametrize("set_aside", [True, False])
def test_a_file_in_the_way_is_named(tmp_path: Path, set_aside: bool) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(StoreError, match=str(path)):
        prepare_folder(path, set_aside=set_aside)
    assert path.read_text() == "mine"
