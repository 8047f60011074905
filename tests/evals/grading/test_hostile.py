"""Programs that attack their host: contained, judged wrong, harmless to others."""

import math
import os
import resource
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from evals.grading.programs.code import CodeProblem, score
from evals.grading.programs.guest.judge import _checked
from evals.grading.programs.guest.messages import NotPlainError
from evals.grading.programs.sandbox import Limits
from evals.grading.score import Score
from tests.evals.grading.hostile import HOSTILE, RIGHT

PROBLEM = CodeProblem(
    prompt='def double(x: int) -> int:\n    """Twice the number."""\n',
    entry_point="double",
    test="""
def assertion(out, exp):
    if out != exp:
        import numpy as np

        np.testing.assert_allclose(out, exp, atol=1e-6)


def check(candidate):
    inputs = [[number] for number in range(1, 50)]
    results = [2 * number for number in range(1, 50)]
    for inp, exp in zip(inputs, results):
        assertion(candidate(*inp), exp)
""",
    canonical_solution="    return x + x\n",
)
LIMITS = Limits(memory_bytes=512 << 20)
PLANTED = "not for the eyes of programs"
MARKER = f"left-behind-{secrets.token_hex(8)}"


@dataclass(frozen=True)
class Batch:
    """Judgements on a batch of hostile and right programs, and traces of their attacks."""

    hostile: dict[str, Score]
    right: list[Score]
    planted: str
    num_connections: int
    memory_growth: int


@pytest.fixture(scope="module")
def batch(isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    planted = tmp_path_factory.mktemp("outside") / "planted.txt"
    planted.write_text(PLANTED)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        sources = {name: _aimed(source, planted, server) for name, source in HOSTILE.items()}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with ThreadPoolExecutor(32) as threads:
            hostile = {name: threads.submit(_judged, source) for name, source in sources.items()}
            right = [threads.submit(_judged, RIGHT) for _ in range(6)]
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return Batch(
            {name: future.result() for name, future in hostile.items()},
            [future.result() for future in right],
            planted.read_text(),
            _num_connections(server),
            growth * 1024,
        )


def _aimed(source: str, planted: Path, server: socket.socket) -> str:
    names = {
        "PLANTED": repr(str(planted)),
        "TESTS": repr(__file__),
        "PORT": str(server.getsockname()[1]),
        "PROCESS": str(os.getpid()),
        "MARKER": repr(MARKER),
    }
    for name, value in names.items():
        source = source.replace(name, value)
    return source


def _judged(source: str) -> Score:
    return score(f"```python\n{source}```", PROBLEM, LIMITS)


def _num_connections(server: socket.socket) -> int:
    try:
        server.accept()
    except BlockingIOError:
        return 0
    return 1


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_judged_wrong(batch: Batch, name: str) -> None:
    result = batch.hostile[name]
    assert not result.correct
    assert result.status == "judged", result.explanation
    assert result.explanation


def test_right_programs_among_them_are_judged_right(batch: Batch) -> None:
    assert [result.explanation for result in batch.right] == ["passes 49 tests"] * 6
    assert all(result.correct for result in batch.right)


def test_time_limits_are_named(batch: Batch) -> None:
    for name in ("endless loop", "endless loop that catches everything", "sleep"):
        assert batch.hostile[name].explanation == "exceeds the time limit in test 1"


def test_an_exit_is_not_a_pass(batch: Batch) -> None:
    assert "status 0 when loaded" in batch.hostile["exit 0 before the tests"].explanation
    assert "status 0" in batch.hostile["exit 0 in a test"].explanation


def test_a_result_that_is_not_plain_data_is_reported(batch: Batch) -> None:
    for name in ("equal to everything", "a result that is a function"):
        assert "not plain data" in batch.hostile[name].explanation


def test_a_reply_of_another_form_is_reported(batch: Batch) -> None:
    for name in ("raise what is no exception", "take no time that is a number"):
        assert batch.hostile[name].explanation == "returns a message that is no reply in test 1"


NO_REPLIES: list[Any] = [
    *(None, (), ("value", 1), ("value", 1, 0), ("other", 1, 0.0), (5, 1, 0.0)),
    *(("value", 1, math.nan), ("value", 1, math.inf), ("value", 1, -math.inf)),
    *(("not plain", 1, 0.0), ("raised", 5, 0.0), ("raised", (), 0.0), ("raised", ([], ""), 0.0)),
    *(("raised", (5, ""), 0.0), ("raised", (["A", 5], ""), 0.0), ("raised", (["A"], 5), 0.0)),
    *(("raised", ("AB", ""), 0.0), ("raised", (["A"], "", ""), 0.0)),
]


@pytest.mark.parametrize("reply", NO_REPLIES)
def test_only_replies_are_read(reply: Any) -> None:
    with pytest.raises(NotPlainError, match="no reply"):
        _checked(reply)


def test_replies_are_read() -> None:
    for reply in (("value", None, 0.5), ("not plain", "a", 0.5), ("raised", (["A"], ""), 0.5)):
        assert _checked(reply) == reply
    assert _checked(("value", [1], -1.0)) == ("value", [1], 0.0)


def test_integers_that_take_minutes_are_refused(batch: Batch) -> None:
    unprintable = batch.hostile["an integer that takes minutes to print"]
    assert unprintable.explanation == "returns an integer of 30000001 bits in test 1"
    unreadable = batch.hostile["an integer that takes minutes to read"]
    assert "cannot be read (ValueError)" in unreadable.explanation


def test_nothing_outside_was_written(batch: Batch) -> None:
    assert batch.planted == PLANTED


def test_nothing_reached_the_network(batch: Batch) -> None:
    assert batch.num_connections == 0


def test_a_gigabyte_of_output_is_not_kept(batch: Batch) -> None:
    assert "prints more than" in batch.hostile["print a gigabyte"].explanation
    assert batch.memory_growth < 256 << 20


def test_no_process_is_left_behind(batch: Batch) -> None:
    assert batch.hostile["leave a process behind"].explanation == "wrong result in test 1"
    deadline = time.monotonic() + 10  # the kernel ends a namespace a moment after its first process
    while left := _processes_with(MARKER):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _processes_with(word: str) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if word in (process.info["cmdline"] or ())
    ]
