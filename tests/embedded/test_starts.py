"""Starts of the embedded runtime that serve, fail, are interrupted, or lose a process.

Two run at a time: a start spends most of its time in imports, in a single process.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from eager_sgl.embedded.address import url_of
from eager_sgl.embedded.runtime import EmbeddedRuntime
from eager_sgl.engine.limits import ONCE
from eager_sgl.engine.loop import run
from eager_sgl.engine.probe import served_model
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import RuntimeStartError, RuntimeStoppedError, ServerUnreachableError
from tests.conftest import REASONER
from tests.embedded.test_runtime import (
    START_SECONDS,
    running,
    scheduling,
    wait_until,
    write_model,
)

NOTICED_SECONDS = 5.0
NUM_CONCURRENT = 2
LABEL = "EAGER_SGL_TEST_START"
"""The environment variable that names a start."""


def ipv6_host() -> str:
    """A local address of this machine, of IPv6 if it has one."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return "127.0.0.1"
    return "::1"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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


def serve(folder: Path) -> EmbeddedRuntime:
    """A start that serves at a named address. (`test_replicas.py` has one at a host's name.)"""
    return EmbeddedRuntime(
        REASONER,
        log_path=folder / "runtime.log",
        server_args={"host": ipv6_host(), "port": free_port(), "log_level": "debug"},
    )


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
        folders = {name: folder / name for name in ("served", "broken", "interrupted", "killed")}
        for path in folders.values():
            path.mkdir()
        with ThreadPoolExecutor(NUM_CONCURRENT) as pool:
            self.served = pool.submit(serve, folders["served"])
            self.broken = pool.submit(fail, folders["broken"])
            self.interrupted = pool.submit(interrupt, folders["interrupted"], self.descendants)
            self.killed = pool.submit(lose_scheduler, folders["killed"])

    def close(self) -> None:
        if self.served.exception() is None:
            self.served.result().close()


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starts]:
    starts = Starts(tmp_path_factory.mktemp("starts"))
    yield starts
    starts.close()


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


@pytest.mark.integration
def test_a_runtime_at_an_address_ends_with_its_server(starts: Starts) -> None:
    with starts.served.result() as runtime:
        assert_it_serves_at(ipv6_host(), runtime)
        assert_it_ends_with("python", "the server", runtime)
    assert "closed" in str(stopped(runtime))


def assert_it_serves_at(host: str, runtime: EmbeddedRuntime) -> None:
    assert runtime.url == url_of(host, int(runtime.url.rpartition(":")[2]))
    transport = Transport(runtime.url, api_key=runtime.api_key)
    assert run(served_model(transport, ONCE)) == runtime.model_path
    runtime.check()


def assert_it_ends_with(victim: str, name: str, runtime: EmbeddedRuntime) -> None:
    """Kill a process; the runtime names it, ends all others, and closes its port."""
    server = psutil.Process(runtime.pid)
    processes = [server, *server.children(recursive=True)]
    next(p for p in processes if p.name().startswith(victim)).kill()
    assert wait_until(lambda: stopped(runtime) is not None, NOTICED_SECONDS)
    assert re.search(rf"{name} died \(signal 9\)", str(stopped(runtime)))
    assert str(runtime.log_path) in str(stopped(runtime))
    assert wait_until(lambda: not running(processes), NOTICED_SECONDS), running(processes)
    with pytest.raises(ServerUnreachableError, match="cannot reach"):
        run(served_model(Transport(runtime.url, api_key=runtime.api_key), ONCE))


def stopped(runtime: EmbeddedRuntime) -> RuntimeStoppedError | None:
    try:
        runtime.check()
    except RuntimeStoppedError as error:
        return error
    return None
