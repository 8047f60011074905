"""An SGLang server's own counts, from its metrics and loads."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import dataclass

__all__ = ["ServerCounts"]

_TIMEOUT = 10.0
_GENERATED = re.compile(r"^sglang:generation_tokens_total\{[^}]*\} (\S+)$", re.M)


@dataclass(frozen=True)
class ServerCounts:
    """Counts of a server that was started with `--enable-metrics`.

    Attributes:
        url: base URL.
        api_key: that it requires.
    """

    url: str
    api_key: str | None = None

    def num_running(self) -> int:
        """Requests that run or wait."""
        loads = json.loads(self._get("/v1/loads?include=core"))["loads"]
        return sum(int(load["num_running_reqs"] + load["num_waiting_reqs"]) for load in loads)

    def num_generated(self, limit_s: float = 60.0) -> int:
        """Tokens of all requests so far, aborted ones included; waits until nothing runs.

        Raises:
            RuntimeError: it has no metrics, or requests still run after the limit.
        """
        deadline = time.monotonic() + limit_s
        while self.num_running():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.url} still runs requests after {limit_s:.0f} s")
            time.sleep(0.1)
        text = self._get("/metrics")
        if "sglang:" not in text:
            raise RuntimeError(f"{self.url} has no metrics; start it with --enable-metrics")
        return round(sum(map(float, _GENERATED.findall(text))))

    def _get(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
            text: str = reply.read().decode()
            return text
