"""Plain sampling and other ways to generate, timed on the same work in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eager_sgl import SamplingConfig
from evals.tasks import find_task
from evals.throughput.contenders import PLAIN, SEARCHES, Contender
from evals.throughput.rows import Passes, Shape, Throughput
from evals.throughput.workload import (
    Cost,
    Stopwatch,
    concurrency_of,
    grow_trees,
    sample_plainly,
    segments_of,
)

if TYPE_CHECKING:
    from eager_sgl import Client, PromptResult

__all__ = ["time_shape"]

TASK = "countdown"


@dataclass(frozen=True)
class _Work:
    """The prompts of a shape on a server."""

    shape: Shape
    client: Client
    stopwatch: Stopwatch
    sampling: SamplingConfig
    prompts: Sequence[Sequence[int]]

    def grow(self, way: Contender) -> tuple[Cost, list[PromptResult]]:
        method = way.build(self.shape.threshold, self.shape.max_sequences, self.sampling)
        return grow_trees(self.client, self.prompts, method, self.shape.num_prompts, self.stopwatch)

    def num_live(self, trees: Sequence[PromptResult]) -> int:
        return concurrency_of(trees, self.shape.num_prompts)

    def plain(self, way: Contender) -> tuple[Callable[[], Cost], int | None]:
        """Plain sampling to compare a contender with, and its live sequences."""
        if way.method in SEARCHES:
            return (lambda: self.grow(PLAIN)[0]), None
        _, trees = self.grow(way)
        segments, num_live = segments_of(trees), self.num_live(trees)

        def sample() -> Cost:
            return sample_plainly(self.client, segments, self.sampling, num_live, self.stopwatch)

        return sample, num_live


def time_shape(
    shape: Shape,
    ways: Sequence[Contender],
    client: Client,
    stopwatch: Stopwatch,
    sampling: SamplingConfig,
    *,
    repeats: int,
    until: float,
) -> Iterator[Throughput]:
    """Plain sampling and the contenders on one shape, interleaved.

    Args:
        ways: all searches, or none.
        repeats: passes.
        until: a time of `time.perf_counter` after which only the first pass begins.
    """
    samples = find_task(TASK).load(shape.total, None, 0)
    prompts = [client.encode(sample.prompt) for sample in samples]
    work = _Work(shape, client, stopwatch, sampling, prompts)
    sample, num_live = work.plain(ways[0])
    plain, passes = Passes(PLAIN, num_live), {way: Passes(way) for way in ways}
    sample()  # a first pass warms the server up
    for repeat in range(repeats):
        if repeat and time.perf_counter() > until:
            break
        plain.costs.append(sample())
        for way in _rotated(ways, repeat):
            if repeat == 0 or not way.once:
                cost, trees = work.grow(way)
                passes[way].costs.append(cost)
                passes[way].num_live = num_live and work.num_live(trees)
    for timed in (plain, *passes.values()):
        yield timed.throughput(shape, plain)


def _rotated(ways: Sequence[Contender], repeat: int) -> list[Contender]:
    """Another contender is the first after plain sampling in each pass."""
    start = repeat % len(ways)
    return [*ways[start:], *ways[:start]]
