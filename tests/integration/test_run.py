"""`python evals/run.py` as a user runs it, on the real runtime."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import API_KEY
from tests.faults.servers import num_requests
from tests.integration.driver import ROOT, Driver, Ended, Kill, await_result, lines

pytestmark = pytest.mark.integration

MAX_SEQUENCES = 4
PARALLEL_SEQUENCES = 6  # half as many again, for the curve that two stages are compared with
METHODS = ["parallel", "eager_init", "eager_adapt", "eager"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "evals" / "run.py"), *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(),
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = evaluate(
        *("--server", server_url, "--limit", "12", "--max-sequences", str(MAX_SEQUENCES)),
        *("--output-dir", str(folder)),
    )
    return folder, done


Finished = tuple[Path, subprocess.CompletedProcess[str]]


def test_it_ends_with_the_table(finished: Finished) -> None:
    _, done = finished
    assert (done.returncode, done.stderr) == (0, "")
    for method in METHODS:
        assert f"{method}: 12/12 prompts" in done.stdout
    for text in ("Pass@4", "Cons@4"):
        assert text in done.stdout
    assert (finished[0] / "report.html").stat().st_size > 10_000


def test_every_line_adds_up(finished: Finished) -> None:
    results = lines(finished[0])
    assert len(results) == 48
    for line in results:
        sequences, counts = line["sequences"], line["counts"]
        first = [sequence for sequence in sequences if sequence["stage"] == 1]
        max_of_method = PARALLEL_SEQUENCES if line["method"] == "parallel" else MAX_SEQUENCES
        assert 1 <= len(first) <= max_of_method
        extra = line["stage_two"]["extra_used"] if line["stage_two"] else 0
        assert len(sequences) == len(first) + extra
        assert counts["naive"] == sum(len(sequence["token_ids"]) for sequence in sequences)
        assert counts["discarded"] >= 0
        assert counts["unique"] <= counts["naive"]
        if line["method"] == "parallel":
            assert len(sequences) == PARALLEL_SEQUENCES
            assert counts["generated"] == counts["unique"] == counts["naive"]


def test_every_branch_agrees_with_the_tree(finished: Finished) -> None:
    trees = [line for line in lines(finished[0]) if line["method"] != "parallel"]
    assert any(len(line["sequences"]) > 1 for line in trees)
    for line in trees:
        assert line["sequences"][0]["parent"] is None
        for child in line["sequences"]:
            assert (child["parent"] is None) == (child["branch"] is None)
            if child["parent"] is not None:
                check_branch(line, child)


def check_branch(line: dict[str, Any], child: dict[str, Any]) -> None:
    branch, parent = child["branch"], line["sequences"][child["parent"]]
    position = branch["position"]
    assert child["stage"] == parent["stage"]
    assert child["token_ids"][:position] == parent["token_ids"][:position]
    taken = [parent["token_ids"][position], child["token_ids"][position]]
    assert taken == branch["token_ids"]
    in_stage_two = child["stage"] == 2
    assert branch["entropy"] >= (line["stage_two"] if in_stage_two else line)["threshold"]
    assert branch["probabilities"][0] >= branch["probabilities"][1]


def test_a_method_of_two_stages_holds_its_first(finished: Finished) -> None:
    results = {(line["method"], line["sample_id"]): line for line in lines(finished[0])}
    for (method, sample_id), line in results.items():
        if line["stage_two"] is None:
            continue
        assert method in ("eager_adapt", "eager")
        first = results["eager_init", sample_id]
        assert line["sequences"][: len(first["sequences"])] == first["sequences"]
        assert line["counts"]["generated"] >= first["counts"]["generated"]
        assert line["peak_entropy"] == first["peak_entropy"]
        solved = any(sequence["correct"] for sequence in first["sequences"])
        saturated = len(first["sequences"]) == MAX_SEQUENCES
        eligible = saturated if method == "eager_adapt" else not solved
        assert line["stage_two"]["eligible"] == eligible


def test_the_summary_is_of_the_results(finished: Finished) -> None:
    folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    results = lines(folder)
    rows = [row for row in summary["rows"] if row["max_sequences"] == MAX_SEQUENCES]
    assert [row["method"] for row in rows] == METHODS
    assert [row["estimated"] for row in rows] == [True, False, False, False]
    for row in rows[1:]:
        of_method = [line for line in results if line["method"] == row["method"]]
        assert row["num_prompts"] == len(of_method)
        for field, count in (("tokens_generated", "generated"), ("num_requests", "requests")):
            assert row[field] == sum(line["counts"][count] for line in of_method)
        assert row["num_sequences"] == sum(len(line["sequences"]) for line in of_method)
        solved = [any(s["correct"] for s in line["sequences"]) for line in of_method]
        assert row["pass_at_k"] == pytest.approx(sum(solved) / len(of_method))
    assert [row["theta"] is None for row in rows] == [True, False, False, False]


def test_a_run_is_judged_again_without_its_server(
    finished: Finished, tmp_path: Path, driver: Driver
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    again = driver.run("--regrade", "--reasoning-end", "none", output_dir=folder)
    assert (again.code, again.errors) == (0, "")
    assert "sequences gave an answer of the form that the task asks for" in again.output
    assert not any(s["correct"] for line in lines(folder) for s in line["sequences"])
    again = driver.run("--regrade", "--reasoning-end", "</think>", output_dir=folder)
    assert (again.code, again.errors) == (0, "")
    assert "0 now wrong, 0 no longer judged" in again.output
    # What follows the reasoning in the text is what the tokens behind it said.
    assert lines(folder) == lines(finished[0])


def test_sequences_are_read_to_their_answers(finished: Finished) -> None:
    answered = [s["answer"] is not None for line in lines(finished[0]) for s in line["sequences"]]
    assert sum(answered) > len(answered) / 2


LONG = ("--concurrency", "1", "--limit", "400")


def ending(ended: Ended, folder: Path) -> tuple[int, str]:
    """The exit code and the message of a run that failed; its results exist and are whole."""
    kept = (
        f"; {len(lines(folder))} finished results are kept in {folder / 'results.jsonl'}, "
        "the same command continues the run\n"
    )
    assert ended.errors.startswith("error: ")
    assert ended.errors.endswith(kept)
    assert ended.errors.count("\n") == 1
    assert not (folder / "summary.json").exists()
    assert len(lines(folder)) >= 1
    return ended.code, ended.errors.removeprefix("error: ").removesuffix(kept)


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupted_run_keeps_its_results(
    server_url: str, tmp_path: Path, driver: Driver, number: int, code: int, message: str
) -> None:
    kill = Kill(num_lines=1, number=number)
    many = ("--concurrency", "8", "--limit", "400")
    ended = driver.run("--server", server_url, *many, output_dir=tmp_path, kill=kill)
    # The run has waited until the requests of its prompts have ended.
    assert num_requests(server_url, API_KEY) == 0
    assert ending(ended, tmp_path) == (code, message)


class Relay:
    """Forwards connections to a server until it is cut: for clients, a server that dies."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()

    def cut(self) -> None:
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_the_results_outlive_the_server(server_url: str, tmp_path: Path, driver: Driver) -> None:
    relay = Relay(server_url)
    # How long a request is retried is tested beside the transport.
    driver.start("--server", relay.url, *LONG, output_dir=tmp_path, pauses=(0.1, 0.2))
    await_result(tmp_path)
    relay.cut()
    code, message = ending(driver.end(), tmp_path)
    assert code == 1
    assert relay.url in message


def test_a_run_on_two_servers_outlives_one(server_url: str, tmp_path: Path, driver: Driver) -> None:
    relays = Relay(server_url), Relay(server_url)
    urls = ",".join(relay.url for relay in relays)
    few = ("--methods", "eager_init", "--concurrency", "8", "--limit", "24")
    small = ("--max-sequences", str(MAX_SEQUENCES))
    driver.start("--server", urls, *few, *small, output_dir=tmp_path, pauses=(0.1, 0.2))
    await_result(tmp_path)
    relays[1].cut()
    assert len(lines(tmp_path)) < 24, "no prompt was left to the other server"
    ended = driver.end()
    assert (ended.code, ended.errors) == (0, "")
    assert len(lines(tmp_path)) == 24
    assert f"connecting to {relays[0].url}, {relays[1].url}" in ended.output


def test_a_server_that_is_not_there_gets_one_sentence(tmp_path: Path) -> None:
    done = evaluate("--server", "http://127.0.0.1:9", "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1


def test_prompts_that_share_tokens_spend_what_they_have(
    server_url: str, tmp_path: Path, driver: Driver
) -> None:
    budget, num_prompts = 150, 12
    shared = ("--methods", "best_first", "--token-budget", str(budget), "--width", "2")
    limits = ("--limit", str(num_prompts), "--stop", "unexplored:0.01")
    done = driver.run("--server", server_url, *limits, *shared, output_dir=tmp_path)
    assert (done.code, done.errors) == (0, "")
    results = lines(tmp_path)
    assert len(results) == num_prompts
    spent = [line["counts"]["generated"] for line in results]
    # Beyond the total, no more than the rounds that ran at the end cost beyond their expectation.
    assert sum(spent) < num_prompts * budget + 3 * 2 * 256
    assert sum(spent) > 0.5 * num_prompts * budget
    assert len({len(line["sequences"]) for line in results}) > 1, "bids distinguish prompts"
    assert "shared 150 tokens per prompt" in " ".join(done.output.split())
