"""The passes of a contender in figures: a row of `bench.json`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from evals.throughput.contenders import Contender
from evals.throughput.profiles import MODES
from evals.throughput.workload import Cost

__all__ = ["Passes", "Shape", "Share", "Throughput"]

MIN_PROMPTS = 4


@dataclass(frozen=True)
class Shape:
    """A workload.

    Attributes:
        mode: a name of `MODES`, or θ in nats; empty for searches.
        num_prompts: at once.
        rounds: prompts in all, per prompt at once.
    """

    mode: str
    num_prompts: int
    max_sequences: int
    rounds: float

    @property
    def threshold(self) -> float | None:
        """θ in nats; None for searches."""
        if not self.mode:
            return None
        return MODES[self.mode] if self.mode in MODES else float(self.mode)

    @property
    def total(self) -> int:
        """Prompts in all."""
        return max(MIN_PROMPTS, round(self.rounds * self.num_prompts))


@dataclass(frozen=True)
class Share:
    """A rate as a share of that of plain sampling in the same pass.

    Attributes:
        median: over the passes.
        range: lowest and highest.
    """

    median: float
    range: tuple[float, float]

    @classmethod
    def of(cls, rates: Iterable[float], plain_rates: Iterable[float]) -> Share:
        """Of the passes that both have."""
        shares = [rate / plain for rate, plain in zip(rates, plain_rates, strict=False)]
        return cls(median(shares), (min(shares), max(shares)))


@dataclass(frozen=True)
class Throughput:
    """A contender on a shape: a row of `bench.json`. Rates are medians over the passes.

    Attributes:
        tokens_per_second: decoded ones.
        efficiency: by decoded tokens.
        delivered_efficiency: by delivered tokens.
        live_sequences: alive at a decoding step, in the mean; None for a search.
        running: `ServerSteps.running`.
        step_seconds: `ServerSteps.seconds`, as `running` None for a server that this process did
            not start, and where the passes are short.
        prefill_steps_per_1000_tokens, server_seconds_per_1000_tokens: None for a server that this
            process did not start.
    """

    mode: str
    method: str
    monitor: str
    prompts: int
    max_sequences: int
    chunk_tokens: int | None
    width: int | None
    tokens_per_second: float
    tokens_per_second_range: tuple[float, float]
    efficiency: Share
    delivered_efficiency: Share
    num_passes: int
    live_sequences: int | None
    running: float | None
    step_seconds: float | None
    requests_per_1000_tokens: float
    discarded_share: float
    prefilled_per_1000_tokens: float
    prefill_steps_per_1000_tokens: float | None
    server_seconds_per_1000_tokens: float | None
    client_seconds_per_1000_tokens: float


@dataclass
class Passes:
    """The passes of a contender over a shape.

    Attributes:
        num_live: `Throughput.live_sequences`.
    """

    contender: Contender
    num_live: int | None = None
    costs: list[Cost] = field(default_factory=list)

    @property
    def decoded_rates(self) -> list[float]:
        """Decoded tokens per second of each pass."""
        return [cost.counts.generated / cost.seconds for cost in self.costs]

    @property
    def delivered_rates(self) -> list[float]:
        """Delivered tokens per second of each pass."""
        return [cost.delivered / cost.seconds for cost in self.costs]

    def throughput(self, shape: Shape, plain: Passes) -> Throughput:
        """The passes in figures.

        Args:
            plain: the passes of plain sampling.
        """
        counts = [cost.counts for cost in self.costs]
        steps = [cost.steps for cost in self.costs if cost.steps]
        num_decoded = sum(c.generated for c in counts)
        num_delivered = sum(cost.delivered for cost in self.costs)
        rates = self.decoded_rates
        return Throughput(
            mode=shape.mode,
            method=self.contender.method,
            monitor=self.contender.monitor,
            prompts=shape.num_prompts,
            max_sequences=shape.max_sequences,
            chunk_tokens=self.contender.chunk_tokens,
            width=self.contender.width,
            tokens_per_second=median(rates),
            tokens_per_second_range=(min(rates), max(rates)),
            efficiency=Share.of(rates, plain.decoded_rates),
            delivered_efficiency=Share.of(self.delivered_rates, plain.delivered_rates),
            num_passes=len(self.costs),
            live_sequences=self.num_live,
            running=_median_of_known(step.running for step in steps),
            step_seconds=_median_of_known(step.seconds for step in steps),
            requests_per_1000_tokens=self._per_1000([c.requests for c in counts]),
            discarded_share=1 - num_delivered / max(1, num_decoded),
            prefilled_per_1000_tokens=self._per_1000([c.prefilled for c in counts]),
            prefill_steps_per_1000_tokens=self._per_1000_if_known(
                [step.prefills for step in steps]
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


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
