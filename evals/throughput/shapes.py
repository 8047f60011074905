"""Plain sampling and the monitors of `EagerConfig`, timed on the same work in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from eager_sgl import EagerConfig, SamplingConfig
from evals.tasks import find_task
from evals.throughput.workload import (
    Cost,
    Stopwatch,
    concurrency_of,
    grow_trees,
    sample_plainly,
    segments_of,
)

if TYPE_CHECKING:
    from eager_sgl import Client

__all__ = ["Shape", "Throughput", "contenders", "time_shape"]

MODES = {"natural": 0.7, "eager": 0.05, "monitored": 2.99}
"""θ by name."""
MIN_PROMPTS = 4
TASK = "countdown"


@dataclass(frozen=True)
class Contender:
    """A way to generate.

    Attributes:
        monitor: "plain", "step", or one of `EagerConfig.monitor`.
        chunk_tokens: None where it has no effect.
        once: too slow to be repeated.
    """

    monitor: str
    chunk_tokens: int | None = None
    once: bool = False

    def config(self, shape: Shape, max_new_tokens: int) -> EagerConfig:
        """EAGer-init by this monitor."""
        return EagerConfig(
            threshold=MODES[shape.mode],
            monitor="gate" if self.monitor == "gate" else "chunk",
            max_sequences=shape.max_sequences,
            chunk_tokens=self.chunk_tokens or 64,
            sampling=SamplingConfig(max_new_tokens=max_new_tokens),
        )


def contenders(monitors: Sequence[str], chunk_sizes: Sequence[int]) -> list[Contender]:
    """Every monitor, and `chunk` with each size."""
    ways = {
        "chunk": [Contender("chunk", size) for size in chunk_sizes],
        "step": [Contender("step", 1, once=True)],
    }
    return [way for name in monitors for way in ways.get(name, [Contender(name)])]


@dataclass(frozen=True)
class Shape:
    """A workload.

    Attributes:
        mode: one of `MODES`.
        num_prompts: at once.
        rounds: prompts in all, per prompt at once.
    """

    mode: str
    num_prompts: int
    max_sequences: int
    rounds: float

    @property
    def total(self) -> int:
        """Prompts in all."""
        return max(MIN_PROMPTS, round(self.rounds * self.num_prompts))


@dataclass(frozen=True)
class Throughput:
    """A contender on a shape: a row of `bench.json`. Rates are medians over the passes.

    Attributes:
        efficiency: its tokens per second as a share of those of plain sampling.
        prefill_steps_per_1000_tokens, server_seconds_per_1000_tokens: None for a server that this
            process did not start.
    """

    mode: str
    monitor: str
    prompts: int
    max_sequences: int
    chunk_tokens: int | None
    tokens_per_second: float
    tokens_per_second_range: tuple[float, float]
    efficiency: float
    num_passes: int
    live_sequences: int
    requests_per_1000_tokens: float
    discarded_share: float
    prefilled_per_1000_tokens: float
    prefill_steps_per_1000_tokens: float | None
    server_seconds_per_1000_tokens: float | None
    client_seconds_per_1000_tokens: float


@dataclass
class _Passes:
    """The passes of a contender over a shape."""

    contender: Contender
    num_live: int = 0
    costs: list[Cost] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each pass."""
        return [cost.delivered / cost.seconds for cost in self.costs]

    def throughput(self, shape: Shape, plain: _Passes) -> Throughput:
        """The passes in figures.

        Args:
            plain: the passes of plain sampling, which discards nothing.
        """
        counts = [cost.counts for cost in self.costs]
        num_discarded = 0 if self is plain else sum(c.discarded for c in counts)
        return Throughput(
            mode=shape.mode,
            monitor=self.contender.monitor,
            prompts=shape.num_prompts,
            max_sequences=shape.max_sequences,
            chunk_tokens=self.contender.chunk_tokens,
            tokens_per_second=median(self.speeds),
            tokens_per_second_range=(min(self.speeds), max(self.speeds)),
            efficiency=median(self.speeds) / median(plain.speeds),
            num_passes=len(self.costs),
            live_sequences=self.num_live,
            requests_per_1000_tokens=self._per_1000([c.requests for c in counts]),
            discarded_share=num_discarded / max(1, sum(c.generated for c in counts)),
            prefilled_per_1000_tokens=self._per_1000([c.prefilled for c in counts]),
            prefill_steps_per_1000_tokens=self._per_1000_if_known(
                [cost.prefill_steps for cost in self.costs]
            ),
            server_seconds_per_1000_tokens=self._per_1000_if_known(
                [cost.server_seconds for cost in self.costs]
            ),
            client_seconds_per_1000_tokens=self._per_1000(
                [cost.client_seconds for cost in self.costs]
            ),
        )

    def _per_1000(self, values: Sequence[float]) -> float:
        return 1e3 * sum(values) / sum(cost.delivered for cost in self.costs)

    def _per_1000_if_known(self, values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return self._per_1000(known) if known else None


def time_shape(
    shape: Shape,
    ways: Sequence[Contender],
    client: Client,
    stopwatch: Stopwatch,
    *,
    repeats: int,
    max_new_tokens: int,
) -> Iterator[Throughput]:
    """Plain sampling and the contenders on one shape, interleaved."""
    samples = find_task(TASK).load(shape.total, None, 0)
    prompts = [client.encode(sample.prompt) for sample in samples]
    configs = {way: way.config(shape, max_new_tokens) for way in ways}
    passes = {way: _Passes(way) for way in ways}
    plain, config = _Passes(Contender("plain")), configs[ways[0]]
    _, trees = grow_trees(client, prompts, config, shape.num_prompts, stopwatch)
    segments, plain.num_live = segments_of(trees), concurrency_of(trees, shape.num_prompts)

    def sample() -> Cost:
        return sample_plainly(client, segments, config, plain.num_live, stopwatch)

    sample()  # the first passes of either kind warm the server up
    for repeat in range(repeats):
        plain.costs.append(sample())
        for way in ways:
            if repeat == 0 or not way.once:
                cost, trees = grow_trees(
                    client, prompts, configs[way], shape.num_prompts, stopwatch
                )
                passes[way].costs.append(cost)
                passes[way].num_live = concurrency_of(trees, shape.num_prompts)
    for timed in (plain, *passes.values()):
        yield timed.throughput(shape, plain)
