"""The speed of the client alone: `python evals/bench.py --client-only`.

The server is `evals/throughput/instant_server.py`, in another process. The CPU time of this process
is measured, so that the figures are those of one core whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from eager_sgl import EagerConfig, EagerInit, PromptResult, SamplingConfig
from evals.throughput.instant_server import NUM_BRANCHING_STEPS, PROMPT, instant_server

__all__ = ["ClientSpeed", "Residue", "time_client", "time_small_runs"]

PER_PROMPT: int = 2**NUM_BRANCHING_STEPS
NUM_TOKENS = 2048
SAMPLE_SECONDS = 0.01
TOKEN_BYTES = {"gate": 3 * 8, "chunk": 3 * 8 + 2 * 24}
"""Of a token in the results: entries of three tuples and, if monitored, two numbers."""
FEW_SEQUENCES = 2
"""Sequences per prompt where many prompts are in flight."""
SMALL_RUN_TOKENS = 16


@dataclass(frozen=True)
class ClientSpeed:
    """A monitor with some prompts in flight: a row of `bench_client.json`.

    Attributes:
        prompts: in flight at the same time.
        live_branches: sequences at the end.
        threads: of this process, at most.
    """

    monitor: str
    prompts: int
    live_branches: int
    tokens_per_cpu_second: float
    tokens_per_second: float
    requests_per_1000_tokens: float
    bytes_per_live_branch: float
    threads: int


@dataclass(frozen=True)
class Residue:
    """The state of the process after a number of small runs."""

    runs: int
    resident_megabytes: float
    descriptors: int
    threads: int
    tasks: int


Monitor = Literal["gate", "chunk"]


def time_client(live_branches: Sequence[int], num_prompts: Sequence[int]) -> list[ClientSpeed]:
    """Each monitor with live branches in multiples of 32, and with many prompts of 2 sequences."""
    rows = []
    with instant_server() as url:
        monitors: tuple[Monitor, ...] = ("gate", "chunk")
        for monitor in monitors:
            _grow(url, monitor, 1, PER_PROMPT)
            rows += [_time(url, monitor, n // PER_PROMPT, PER_PROMPT) for n in live_branches]
            rows += [_time(url, monitor, n, FEW_SEQUENCES) for n in num_prompts]
    return rows


def time_small_runs(number: int, at_once: int = 100) -> Iterator[Residue]:
    """The state of the process after every tenth of many runs of 2 sequences of 16 tokens."""
    with instant_server() as url:
        for index in range(number // at_once):
            _grow(url, "gate", at_once, FEW_SEQUENCES, SMALL_RUN_TOKENS)
            if (index + 1) % max(1, number // at_once // 10) == 0:
                gc.collect()
                process = psutil.Process()
                yield Residue(
                    runs=(index + 1) * at_once,
                    resident_megabytes=process.memory_info().rss / 1e6,
                    descriptors=process.num_fds(),
                    threads=process.num_threads(),
                    tasks=_num_tasks(),
                )


def _num_tasks() -> int:
    from eager_sgl.engine.loop import io_loop

    return len(asyncio.all_tasks(io_loop()))


def _time(url: str, monitor: Monitor, num_prompts: int, per_prompt: int) -> ClientSpeed:
    gc.collect()
    before, cpu, started = _resident(), time.process_time(), time.perf_counter()
    with _Peak() as peak:
        results = _grow(url, monitor, num_prompts, per_prompt)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - started
    num_live, num_tokens = num_prompts * per_prompt, sum(r.counts.generated for r in results)
    assert sum(len(result.sequences) for result in results) == num_live
    unique = sum(result.counts.unique for result in results)
    grown = peak.highest - before - unique * TOKEN_BYTES[monitor]
    return ClientSpeed(
        monitor=monitor,
        prompts=num_prompts,
        live_branches=num_live,
        tokens_per_cpu_second=num_tokens / cpu,
        tokens_per_second=num_tokens / wall,
        requests_per_1000_tokens=1e3 * sum(r.counts.requests for r in results) / num_tokens,
        bytes_per_live_branch=grown / num_live,
        threads=peak.num_threads,
    )


def _grow(
    url: str, monitor: Monitor, num_prompts: int, per_prompt: int, num_tokens: int = NUM_TOKENS
) -> list[PromptResult]:
    from eager_sgl.engine.loop import run

    config = EagerConfig(
        threshold=2.5,
        # One more than there are branches: all sequences are monitored to their ends.
        max_sequences=per_prompt + (per_prompt == PER_PROMPT),
        patience=10**6,
        monitor=monitor,
        sampling=SamplingConfig(max_new_tokens=num_tokens),
    )
    return run(_grow_all(url, config, num_prompts))


async def _grow_all(url: str, config: EagerConfig, num_prompts: int) -> list[PromptResult]:
    from eager_sgl.engine.client import TokenClient
    from eager_sgl.engine.probe import ServerProfile
    from eager_sgl.engine.replicas import Replicas
    from eager_sgl.engine.transport import Transport
    from eager_sgl.generate.prompt import grow

    profile = ServerProfile("instant", "0.5.23", 10**6, 1, "raw", 100, gate="plugin")
    transport = Transport(url)
    replicas = Replicas.of(TokenClient(transport, profile))
    growing = (grow(replicas, PROMPT, EagerInit(config)) for _ in range(num_prompts))
    results = await asyncio.gather(*growing)
    await transport.aclose()
    return results


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


class _Peak:
    """The highest resident size and number of threads within the context."""

    def __enter__(self) -> _Peak:
        self.highest, self.num_threads = _resident(), 0
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
            self.num_threads = max(self.num_threads, threading.active_count() - 1)
