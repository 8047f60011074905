"""Embedded servers of the bundled reasoner that are killed, stopped and restarted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from eager_sgl import EmbeddedRuntime
from eager_sgl.embedded.address import DEFAULT_HOST
from eager_sgl.errors import RuntimeStoppedError
from tests.conftest import REASONER
from tests.faults.subject import API_KEY

__all__ = ["Server", "num_requests"]

_TIMEOUT = 5.0
_FINISHED = re.compile(r"^sglang:generation_tokens_total\{[^}]*\} (\S+)$", re.M)


class Server:
    """A server that keeps its address when it is restarted.

    Args:
        log_path: of its output.
        api_key: that it requires.
        host: where it listens.
        model: that it serves, if no restart names another.
        arguments: further fields of `ServerArgs`.

    Attributes:
        runtime: another one after a restart.
    """

    def __init__(
        self,
        log_path: Path,
        api_key: str = API_KEY,
        host: str = DEFAULT_HOST,
        model: Path = REASONER,
        **arguments: object,
    ) -> None:
        self._log_path, self._api_key, self._model = log_path, api_key, model
        fixed: dict[str, object] = {"random_seed": 0, "enable_metrics": True}
        self._arguments = fixed | {"host": host, "api_key": api_key} | arguments
        self.runtime = self._start(model)
        self.url = self.runtime.url

    def _start(self, model: Path, **arguments: object) -> EmbeddedRuntime:
        given = self._arguments | arguments
        return EmbeddedRuntime(model, log_path=self._log_path, server_args=given)

    @property
    def pid(self) -> int:
        """Of the process that is the group of the whole server."""
        return self.runtime.pid

    def restart(self, model: Path | None = None) -> None:
        """Start it again at its port, perhaps with another model."""
        self.runtime.close()
        self.runtime = self._start(model or self._model, port=urlsplit(self.url).port)

    def restore(self) -> bool:
        """Start it again if it has ended or serves another model; whether it was started."""
        if self.runtime.model_path == str(self._model) and self._lives():
            return False
        self.restart()
        return True

    def _lives(self) -> bool:
        try:
            self.runtime.check()
        except RuntimeStoppedError:
            return False
        return True

    def kill(self) -> None:
        """End all of its processes at once."""
        os.killpg(self.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It accepts connections, and does nothing."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    def num_running(self) -> int | None:
        """Requests that run or wait on it, by its own count; None if it does not answer."""
        return num_requests(self.url, self._api_key)

    def num_decoded(self) -> int | None:
        """Tokens of all requests that have ended on it since its start; None without an answer."""
        answer = _get(f"{self.url}/metrics", self._api_key)
        return None if answer is None else round(sum(map(float, _FINISHED.findall(answer))))

    def seconds_until_idle(self, limit: float) -> float | None:
        """Seconds until it runs nothing; None if it still does after the limit."""
        began = time.monotonic()
        while self.num_running():
            if time.monotonic() - began > limit:
                return None
            time.sleep(0.05)
        return time.monotonic() - began

    def close(self) -> None:
        """End it."""
        self.runtime.close()


def num_requests(url: str, api_key: str) -> int | None:
    """Requests that run or wait on a server, by its own count; None if it does not answer."""
    answer = _get(f"{url}/v1/loads?include=core", api_key)
    if answer is None:
        return None
    loads = json.loads(answer)["loads"]
    return sum(int(load["num_running_reqs"] + load["num_waiting_reqs"]) for load in loads)


def _get(url: str, api_key: str) -> str | None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
            text: str = reply.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None
