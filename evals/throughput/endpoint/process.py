"""The endpoint as a process of its own, whose time, memory and descriptors can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from eager_sgl.embedded.address import DEFAULT_HOST, reserved_port, url_of
from eager_sgl.engine.addresses import API_KEY_VARIABLE

__all__ = ["EndpointProcess", "Footprint"]

_START_SECONDS = 120.0
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Footprint:
    """What a process has.

    Attributes:
        megabytes: resident memory.
        threads, descriptors: numbers.
    """

    megabytes: float
    threads: int
    descriptors: int


class EndpointProcess:
    """`python -m eager_sgl.server` in front of servers; ready once the constructor returns.

    Args:
        servers: base URLs.
        server_key: API key of the servers.
        log_path: of its output, which is overwritten.
        options: of its command line.
        python: command that starts Python; a profiler may stand before it.

    Raises:
        RuntimeError: it has ended, or is not ready within two minutes.

    Attributes:
        url: base URL.
        model: name of the served model.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        server_key: str | None,
        log_path: Path,
        options: Sequence[str] = (),
        python: Sequence[str] = (sys.executable,),
    ) -> None:
        self._log_path = log_path
        with reserved_port(DEFAULT_HOST, 0) as port, log_path.open("wb") as log:
            self.url = url_of(DEFAULT_HOST, port)
            command = [*python, "-m", "eager_sgl.server", "--server", ",".join(servers)]
            self._process = subprocess.Popen(
                [*command, "--port", str(port), *options],
                env=os.environ | ({API_KEY_VARIABLE: server_key} if server_key else {}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self._await_ready()
            except BaseException:
                self.close()
                raise
        self._status = psutil.Process(self._process.pid)
        self.model: str = json.loads(self.get("/v1/models"))["data"][0]["id"]

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.get("/ready")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"the endpoint is not ready; its log is {self._log_path}")

    def get(self, path: str) -> str:
        """The text of a route.

        Raises:
            OSError: there is no answer, or its status is an error's.
        """
        with urllib.request.urlopen(self.url + path, timeout=_TIMEOUT) as reply:
            text: str = reply.read().decode()
            return text

    def in_flight(self) -> int:
        """Requests that it answers, by its metrics."""
        lines = self.get("/metrics").splitlines()
        return round(sum(float(x.split()[-1]) for x in lines if x.startswith(_IN_FLIGHT)))

    def cpu_seconds(self) -> float:
        """CPU time so far, of all its threads, to the nanosecond; psutil has steps of 10 ms."""
        return time.clock_gettime((~self._process.pid << 3) | _CPU_CLOCK)

    def footprint(self) -> Footprint:
        """What it has now."""
        status = self._status
        return Footprint(status.memory_info().rss / 2**20, status.num_threads(), status.num_fds())

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let it finish its requests for a while, then end it."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_IN_FLIGHT = "eager_requests_in_flight "
_CPU_CLOCK = 2
"""Of Linux: the kind of clock that `clock_getcpuclockid` names beside a process."""
