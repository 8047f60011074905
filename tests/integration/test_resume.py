"""Runs killed at any instant, on the real runtime: no result is lost or doubled."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonlines
import pytest

from eager_sgl import RULES, StageOne
from evals.tasks import find_task

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NUM_KILLS = 20
STRIDE = 10  # results, at the most, between two kills
NUM_PROMPTS, MAX_SEQUENCES, PARALLEL_SEQUENCES = 12, 4, 6
METHODS = ("parallel", "eager_init", "eager_adapt", "eager")
ARGUMENTS = ("--limit", str(NUM_PROMPTS), "--max-sequences", str(MAX_SEQUENCES))


class Driver:
    """Runs `evals/run.py` in forks of a process that has imported everything once."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.forks"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, *arguments: str, kill: dict[str, Any] | None = None) -> int:
        """The exit code of a run, negative if a signal ended it."""
        assert self._process.stdin is not None
        order = {"arguments": arguments, "kill": kill}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._answer())

    def close(self) -> None:
        self._process.communicate(timeout=60)
        self._errors.close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(tmp_path_factory.mktemp("driver") / "errors.log")
    yield driver
    driver.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    with jsonlines.open(folder / "results.jsonl") as reader:
        return list(reader)


def whole_lines(folder: Path) -> list[bytes]:
    results = folder / "results.jsonl"
    return results.read_bytes().split(b"\n")[:-1] if results.exists() else []


def check(folder: Path) -> None:
    """Every key once, every method whole, every budget kept."""
    found = lines(folder)
    keys = [(line["method"], line["sample_id"]) for line in found]
    ids = {line["sample_id"] for line in found}
    assert len(ids) == NUM_PROMPTS
    assert sorted(keys) == sorted((method, i) for method in METHODS for i in ids)
    first = {line["sample_id"]: line for line in found if line["method"] == "eager_init"}
    for method in METHODS:
        own = [line for line in found if line["method"] == method]
        most = PARALLEL_SEQUENCES if method == "parallel" else MAX_SEQUENCES
        assert sum(len(line["sequences"]) for line in own) <= most * NUM_PROMPTS
    for line in found:
        if line["stage_two"] is not None:
            stages = [sequence["stage"] for sequence in line["sequences"]]
            assert stages.count(1) == len(first[line["sample_id"]]["sequences"])
            assert stages.count(2) == line["stage_two"]["extra_used"]
    check_grants(found, first)
    assert json.loads((folder / "summary.json").read_text())["partial"] is False


def check_grants(found: list[dict[str, Any]], first: dict[str, dict[str, Any]]) -> None:
    """Every prompt has the grant of its rule, however often the run was killed."""
    samples = find_task("countdown").load(NUM_PROMPTS, None, 0)
    ones = {
        sample.id: StageOne(len(line["sequences"]), MAX_SEQUENCES, line["solved"])
        for sample in samples
        for line in [first[sample.id]]
    }
    for name, rule in RULES.items():
        own = [line for line in found if line["method"] == name]
        granted = {line["sample_id"]: line["stage_two"]["extra_granted"] for line in own}
        expected = rule.certain_grants(ones, NUM_PROMPTS, own[0]["threshold"])
        assert granted == {i: expected[i].extra if i in expected else 0 for i in ones}


def test_runs_killed_at_any_instant_end_with_the_same_results(
    server_url: str, tmp_path: Path, driver: Driver
) -> None:
    rng, num_kills, num_runs = random.Random(0), 0, 0
    left: list[int] = []  # results that a killed run had written
    while num_kills < NUM_KILLS:
        folder = tmp_path / f"run{num_runs}"
        arguments = ("--server", server_url, *ARGUMENTS, "--output-dir", str(folder))
        kept: list[bytes] = []
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            kill = {
                "results": str(folder / "results.jsonl"),
                "num_lines": len(kept) + rng.randrange(STRIDE),
                "delay": rng.uniform(0, 0.2),
            }
            code = driver.run(*arguments, kill=kill if num_kills < NUM_KILLS else None)
            num_kills += code == -signal.SIGKILL
            before, kept = kept, whole_lines(folder)
            assert kept[: len(before)] == before
            if code == -signal.SIGKILL:
                left.append(len(kept))
        assert code == 0
        check(folder)
        num_runs += 1
    in_stage_one = [n for n in left if 0 < n <= 2 * NUM_PROMPTS]
    in_stage_two = [n for n in left if 2 * NUM_PROMPTS < n < len(METHODS) * NUM_PROMPTS]
    assert in_stage_one, f"no kill left a part of the first stages: {left}"
    assert in_stage_two, f"no kill left a part of the second stages: {left}"


@pytest.fixture(scope="module")
def finished(
    server_url: str, tmp_path_factory: pytest.TempPathFactory, driver: Driver
) -> tuple[Path, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("resume") / "run"
    arguments = (*ARGUMENTS, "--stage-two", "resume", "--output-dir", str(folder))
    assert driver.run("--server", server_url, *arguments) == 0
    check(folder)
    return folder, arguments


Finished = tuple[Path, tuple[str, ...]]


def test_extra_sequences_leave_the_tree_where_the_cap_refused(finished: Finished) -> None:
    extra = 0
    for line in lines(finished[0]):
        for sequence in line["sequences"]:
            if sequence["stage"] == 2:
                extra += 1
                parent, place = (
                    line["sequences"][sequence["parent"]],
                    sequence["branch"]["position"],
                )
                assert sequence["token_ids"][:place] == parent["token_ids"][:place]
                assert sequence["token_ids"][place] != parent["token_ids"][place]
    assert extra > 0


def test_a_finished_run_needs_no_server(finished: Finished, driver: Driver) -> None:
    folder, arguments = finished
    before = whole_lines(folder)
    assert driver.run("--server", "http://127.0.0.1:9", *arguments) == 0
    assert whole_lines(folder) == before


def test_another_configuration_is_refused(
    server_url: str, finished: Finished, driver: Driver
) -> None:
    folder, arguments = finished
    before = whole_lines(folder)
    assert driver.run("--server", server_url, *arguments, "--theta", "1.1") == 2
    assert whole_lines(folder) == before


def test_bad_lines_are_kept_aside_and_generated_again(
    server_url: str, finished: Finished, driver: Driver
) -> None:
    folder, arguments = finished
    results = folder / "results.jsonl"
    before = whole_lines(folder)
    bad = [b"", b"garbage", before[3].replace(b'"seed": 0', b'"seed": "0"'), before[5]]
    results.write_bytes(b"\n".join([*before[:3], *bad, *before[4:], b""]))
    assert driver.run("--server", server_url, *arguments) == 0
    check(folder)
    with jsonlines.open(folder / "results.jsonl.bad") as aside:
        assert [line["line"] for line in aside] == [4, 5, 6, 9]
    after = whole_lines(folder)
    assert after[:3] == before[:3]


def test_a_torn_last_line_is_generated_again(
    server_url: str, finished: Finished, driver: Driver
) -> None:
    folder, arguments = finished
    results = folder / "results.jsonl"
    before = whole_lines(folder)
    results.write_bytes(results.read_bytes()[:-100])
    assert driver.run("--server", server_url, *arguments) == 0
    after = whole_lines(folder)
    assert after[:-1] == before[:-1]
    check(folder)
