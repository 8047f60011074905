"""The speed of the client alone: `python evals/bench.py --client-only`.

The server is `evals/throughput/instant_server.py`, in another process. The CPU time of this process
is measured, so that the figures are those of one core whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from eager_sgl import EagerConfig, EagerInit, PromptResult, SamplingConfig
from evals.throughput.instant_server import NUM_BRANCHING_STEPS, PROMPT, instant_server

__all__ = ["ClientSpeed", "time_client"]

PER_PROMPT: int = 2**NUM_BRANCHING_STEPS
NUM_TOKENS = 2048
SAMPLE_SECONDS = 0.01
TOKEN_BYTES = {"gate": 3 * 8, "chunk": 3 * 8 + 2 * 24}
"""Of a token in the tree: entries of three lists and, if monitored, two numbers."""


@dataclass(frozen=True)
class ClientSpeed:
    """A monitor with some live branches: a row of `bench_client.json`."""

    monitor: str
    live_branches: int
    tokens_per_cpu_second: float
    tokens_per_second: float
    requests_per_1000_tokens: float
    bytes_per_live_branch: float


def time_client(live_branches: Sequence[int]) -> list[ClientSpeed]:
    """Each monitor with each number of live branches, which are multiples of 32."""
    rows = []
    with instant_server() as url:
        monitors: tuple[Literal["gate", "chunk"], ...] = ("gate", "chunk")
        for monitor in monitors:
            _grow(url, monitor, PER_PROMPT)
            rows += [_time(url, monitor, number) for number in live_branches]
    return rows


def _time(url: str, monitor: Literal["gate", "chunk"], num_live: int) -> ClientSpeed:
    gc.collect()
    before, cpu, started = _resident(), time.process_time(), time.perf_counter()
    with _Peak() as peak:
        results = _grow(url, monitor, num_live)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - started
    num_tokens = sum(result.counts.generated for result in results)
    unique = sum(result.counts.unique for result in results)
    assert sum(len(result.sequences) for result in results) == num_live
    grown = peak.highest - before - unique * TOKEN_BYTES[monitor]
    return ClientSpeed(
        monitor=monitor,
        live_branches=num_live,
        tokens_per_cpu_second=num_tokens / cpu,
        tokens_per_second=num_tokens / wall,
        requests_per_1000_tokens=1e3 * sum(r.counts.requests for r in results) / num_tokens,
        bytes_per_live_branch=grown / num_live,
    )


def _grow(url: str, monitor: Literal["gate", "chunk"], num_live: int) -> list[PromptResult]:
    from eager_sgl.engine.loop import run

    return run(_grow_all(url, monitor, num_live // PER_PROMPT))


async def _grow_all(
    url: str, monitor: Literal["gate", "chunk"], num_prompts: int
) -> list[PromptResult]:
    from eager_sgl.engine.client import TokenClient
    from eager_sgl.engine.probe import ServerProfile
    from eager_sgl.engine.replicas import Replicas
    from eager_sgl.engine.transport import Transport
    from eager_sgl.generate.growth import grow

    profile = ServerProfile("instant", "0.5.23", 10**6, 1, "raw", 100)
    replicas = Replicas([TokenClient(Transport(url), profile)])
    config = EagerConfig(
        threshold=2.5,
        max_sequences=PER_PROMPT + 1,
        patience=10**6,
        monitor=monitor,
        sampling=SamplingConfig(max_new_tokens=NUM_TOKENS),
    )
    growing = (grow(replicas, PROMPT, EagerInit(config)) for _ in range(num_prompts))
    results = await asyncio.gather(*growing)
    await replicas.aclose()
    return results


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


class _Peak:
    """The highest resident size within the context."""

    def __enter__(self) -> _Peak:
        self.highest = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.highest = max(self.highest, _resident())
