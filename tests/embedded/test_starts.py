"""Starts of the embedded runtime that fail, are interrupted, or lose a process.

Two run at a time: a start spends most of its time in imports, in a single process. Runtimes that
serve, and then lose a process, are tested where servers are needed: `test_replicas.py`,
`test_tool_calls.py`.
"""

from __future__ import annotations

import contextlib
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from eager_sgl.embedded.runtime import EmbeddedRuntime
from eager_sgl.errors import RuntimeStartError
from tests.conftest import REASONER
from tests.embedded.running import START_SECONDS, running
from tests.embedded.test_runtime import scheduling, write_model
from tests.fakes.waiting import wait_until

NUM_CONCURRENT = 2
LABEL = "EAGER_SGL_TEST_START"
"""The environment variable that names a start."""


def processes_of(label: str) -> list[psutil.Process]:
    """The processes of a start. (SGLang's titles overwrite the environment of its processes.)"""
    for server in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if server.environ().get(LABEL) == label:
                return [server, *server.children(recursive=True)]
    return []


def scheduler_of(label: str) -> psutil.Process | None:
    named = (p for p in processes_of(label) if p.name().startswith("sglang::scheduler"))
    return next(named, None)


def fail(folder: Path) -> None:
    """A start with a broken model."""
    (folder / "config.json").write_text("{}")
    log_path = folder / "made" / "runtime.log"
    EmbeddedRuntime(folder, log_path=log_path, launch_timeout=START_SECONDS)


def interrupt(folder: Path, descendants: list[psutil.Process]) -> None:
    """A start that ends with Ctrl-C when its processes exist."""

    def on_progress(stage: str) -> None:
        if stage == "starting the scheduler":
            assert wait_until(lambda: scheduling(processes_of("interrupted")), START_SECONDS)
            descendants.extend(processes_of("interrupted"))
            raise KeyboardInterrupt

    EmbeddedRuntime(
        write_model(folder / "model"),
        log_path=folder / "runtime.log",
        environment={LABEL: "interrupted"},
        on_progress=on_progress,
    )


def lose_scheduler(folder: Path) -> None:
    """A start on all addresses whose scheduler is killed while it works, as by a lack of memory."""

    def on_progress(stage: str) -> None:
        if stage == "starting the scheduler":
            assert wait_until(lambda: scheduler_of("killed") is not None, START_SECONDS)
            time.sleep(1.5)
            scheduler = scheduler_of("killed")
            assert scheduler is not None
            scheduler.kill()

    EmbeddedRuntime(
        REASONER,
        log_path=folder / "runtime.log",
        server_args={"host": "0.0.0.0"},
        environment={LABEL: "killed"},
        on_progress=on_progress,
    )


class Starts:
    """All starts, which have ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.descendants: list[psutil.Process] = []
        folders = {name: folder / name for name in ("broken", "interrupted", "killed")}
        for path in folders.values():
            path.mkdir()
        with ThreadPoolExecutor(NUM_CONCURRENT) as pool:
            self.broken = pool.submit(fail, folders["broken"])
            self.interrupted = pool.submit(interrupt, folders["interrupted"], self.descendants)
            self.killed = pool.submit(lose_scheduler, folders["killed"])


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Starts:
    return Starts(tmp_path_factory.mktemp("starts"))


def error_of(future: Future[Any]) -> str:
    error = future.exception()
    assert isinstance(error, RuntimeStartError), error
    return str(error)


@pytest.mark.integration
def test_a_broken_model_fails_with_the_end_of_the_log(starts: Starts) -> None:
    log_path = starts.folder / "broken" / "made" / "runtime.log"
    last_line = log_path.read_text().splitlines()[-1]
    assert last_line[:100] in error_of(starts.broken)
    assert str(log_path) in error_of(starts.broken)


@pytest.mark.integration
def test_an_interrupted_start_leaves_no_process(starts: Starts) -> None:
    assert isinstance(starts.interrupted.exception(), KeyboardInterrupt)
    assert starts.descendants
    assert not running(starts.descendants)


@pytest.mark.integration
def test_a_process_that_dies_during_the_start_is_named(starts: Starts) -> None:
    pattern = r"stopped while .*: the scheduler died \(signal 9\)"
    assert re.search(pattern, error_of(starts.killed))
