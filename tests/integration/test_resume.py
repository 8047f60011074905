"""Runs killed at any instant, on the real runtime: no result is lost or doubled."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import jsonlines
import pytest

from eager_sgl import RULES, StageOne
from evals.tasks import find_task
from tests.integration.driver import Driver, Kill, lines

pytestmark = pytest.mark.integration

NUM_KILLS = 7
MAX_STRIDE = 6  # results between two kills
NUM_PROMPTS, MAX_SEQUENCES, PARALLEL_SEQUENCES = 12, 4, 6
NUM_KILLED_PROMPTS = 6
METHODS = ("parallel", "eager_init", "eager_adapt", "eager")


def whole_lines(folder: Path) -> list[bytes]:
    results = folder / "results.jsonl"
    return results.read_bytes().split(b"\n")[:-1] if results.exists() else []


def sizes(num_prompts: int) -> tuple[str, ...]:
    return ("--limit", str(num_prompts), "--max-sequences", str(MAX_SEQUENCES))


def check(folder: Path, num_prompts: int = NUM_PROMPTS) -> None:
    """Every key once, every method whole, every budget kept."""
    all_lines = lines(folder)
    keys = [(line["method"], line["sample_id"]) for line in all_lines]
    ids = {line["sample_id"] for line in all_lines}
    assert len(ids) == num_prompts
    assert sorted(keys) == sorted((method, i) for method in METHODS for i in ids)
    first = {line["sample_id"]: line for line in all_lines if line["method"] == "eager_init"}
    for method in METHODS:
        of_method = [line for line in all_lines if line["method"] == method]
        limit = PARALLEL_SEQUENCES if method == "parallel" else MAX_SEQUENCES
        assert sum(len(line["sequences"]) for line in of_method) <= limit * num_prompts
    for line in all_lines:
        if line["stage_two"] is not None:
            stages = [sequence["stage"] for sequence in line["sequences"]]
            assert stages.count(1) == len(first[line["sample_id"]]["sequences"])
            assert stages.count(2) == line["stage_two"]["extra_used"]
    check_grants(all_lines, first, num_prompts)
    assert json.loads((folder / "summary.json").read_text())["partial"] is False


def check_grants(
    all_lines: list[dict[str, Any]], first: dict[str, dict[str, Any]], num_prompts: int
) -> None:
    """Every prompt got what its rule gives, however often the run was killed on the way."""
    samples = find_task("countdown").load(num_prompts, None, 0)
    firsts = {
        sample.id: StageOne(len(line["sequences"]), MAX_SEQUENCES, line["solved"])
        for sample in samples
        for line in [first[sample.id]]
    }
    for name, rule in RULES.items():
        with_rule = [line for line in all_lines if line["method"] == name]
        granted = {line["sample_id"]: line["stage_two"]["extra_granted"] for line in with_rule}
        expected = rule.certain_grants(firsts, num_prompts, with_rule[0]["threshold"])
        assert granted == {i: expected[i].extra if i in expected else 0 for i in firsts}


def test_runs_killed_at_any_instant_end_with_the_same_results(
    server_url: str, tmp_path: Path, driver: Driver
) -> None:
    rng, num_kills, num_runs = random.Random(0), 0, 0
    left: list[int] = []  # results that a killed run had written
    arguments = ("--server", server_url, *sizes(NUM_KILLED_PROMPTS))
    while num_kills < NUM_KILLS:
        folder = tmp_path / f"run{num_runs}"
        kept: list[bytes] = []
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            kill = Kill(len(kept) + rng.randrange(MAX_STRIDE), rng.uniform(0, 0.2))
            may_kill = num_kills < NUM_KILLS
            ended = driver.run(*arguments, output_dir=folder, kill=kill if may_kill else None)
            code = ended.code
            num_kills += code == -signal.SIGKILL
            before, kept = kept, whole_lines(folder)
            assert kept[: len(before)] == before
            if code == -signal.SIGKILL:
                left.append(len(kept))
        assert code == 0, ended.errors
        check(folder, NUM_KILLED_PROMPTS)
        num_runs += 1
    num_first, num_results = (n * NUM_KILLED_PROMPTS for n in (2, len(METHODS)))
    assert any(0 < n <= num_first for n in left), f"no kill within the first stages: {left}"
    assert any(num_first < n < num_results for n in left), f"none within the second: {left}"


@pytest.fixture(scope="module")
def finished(
    server_url: str, tmp_path_factory: pytest.TempPathFactory, driver: Driver
) -> tuple[Path, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("resume") / "run"
    arguments = (*sizes(NUM_PROMPTS), "--stage-two", "resume")
    assert driver.run("--server", server_url, *arguments, output_dir=folder).code == 0
    check(folder)
    return folder, arguments


Finished = tuple[Path, tuple[str, ...]]


def test_extra_sequences_leave_the_tree_at_deferred_branches(finished: Finished) -> None:
    extra = 0
    for line in lines(finished[0]):
        for sequence in line["sequences"]:
            if sequence["stage"] == 2:
                extra += 1
                parent, position = (
                    line["sequences"][sequence["parent"]],
                    sequence["branch"]["position"],
                )
                assert sequence["token_ids"][:position] == parent["token_ids"][:position]
                assert sequence["token_ids"][position] != parent["token_ids"][position]
    assert extra > 0


def test_a_finished_run_needs_no_server(finished: Finished, driver: Driver) -> None:
    folder, arguments = finished
    before = whole_lines(folder)
    assert driver.run("--server", "http://127.0.0.1:9", *arguments, output_dir=folder).code == 0
    assert whole_lines(folder) == before


def test_another_configuration_is_refused(
    server_url: str, finished: Finished, driver: Driver
) -> None:
    folder, arguments = finished
    before = whole_lines(folder)
    other = (*arguments, "--theta", "1.1")
    assert driver.run("--server", server_url, *other, output_dir=folder).code == 2
    assert whole_lines(folder) == before


def test_bad_lines_are_kept_aside_and_generated_again(
    server_url: str, finished: Finished, driver: Driver
) -> None:
    folder, arguments = finished
    results = folder / "results.jsonl"
    before = whole_lines(folder)
    bad = [b"", b"garbage", before[3].replace(b'"seed": 0', b'"seed": "0"'), before[5]]
    results.write_bytes(b"\n".join([*before[:3], *bad, *before[4:], b""]))
    assert driver.run("--server", server_url, *arguments, output_dir=folder).code == 0
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
    assert driver.run("--server", server_url, *arguments, output_dir=folder).code == 0
    after = whole_lines(folder)
    assert after[:-1] == before[:-1]
    check(folder)
