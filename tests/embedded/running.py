"""What runs of a server, and how a runtime that serves is tested to its end."""

from __future__ import annotations

import re
import socket

import psutil
import pytest

from eager_sgl.embedded.address import url_of
from eager_sgl.embedded.runtime import EmbeddedRuntime
from eager_sgl.engine.limits import ONCE
from eager_sgl.engine.loop import run
from eager_sgl.engine.probe import served_model
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import RuntimeStoppedError, ServerUnreachableError
from tests.fakes.waiting import wait_until

__all__ = [
    "START_SECONDS",
    "assert_it_ends_with",
    "assert_it_serves_at",
    "ipv6_host",
    "running",
    "stopped",
]

START_SECONDS = 300.0


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run; a dead one may await its reaping by init."""
    return [process for process in processes if process.is_running() and not is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def ipv6_host() -> str:
    """A local address of this machine, of IPv6 if it has one."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return "127.0.0.1"
    return "::1"


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
    assert wait_until(lambda: stopped(runtime) is not None)
    assert re.search(rf"{name} died \(signal 9\)", str(stopped(runtime)))
    assert str(runtime.log_path) in str(stopped(runtime))
    assert wait_until(lambda: not running(processes)), running(processes)
    with pytest.raises(ServerUnreachableError, match="cannot reach"):
        run(served_model(Transport(runtime.url, api_key=runtime.api_key), ONCE))


def stopped(runtime: EmbeddedRuntime) -> RuntimeStoppedError | None:
    """The error of a runtime that has ended."""
    try:
        runtime.check()
    except RuntimeStoppedError as error:
        return error
    return None
