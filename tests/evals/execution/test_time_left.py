"""The rate of tokens and the estimates of the time left, in runs whose whole course is known."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from eager_sgl.budget.sequences import Ledger
from eager_sgl.core import TokenCounts
from evals.execution.progress.meter import FIRST_PARTS_SECONDS, RECENT_SECONDS, Meter
from evals.execution.progress.snapshot import STEADY_SECONDS, Snapshot, TimeLeft
from tests.evals.fakes.clock import Clock

LIMIT = 4000
TOKENS_PER_SECOND, ON_A_LAPTOP = 25, 5
TOKEN, CHUNK = 1, 64
"""Sizes of the parts of answers."""
Draw = Callable[[random.Random], float]

LENGTHS: dict[str, Draw] = {
    "uniform": lambda rng: rng.uniform(200, 1800),
    "lognormal": lambda rng: rng.lognormvariate(math.log(800), 0.6),
    "exponential": lambda rng: 60 + rng.expovariate(1 / 900),
}
SHAPES = [(1, 32, 1), (1, 1, 1), (64, 8, 64), (64, 8, 8), (200, 1, 16), (30, 8, 1), (12, 32, 12)]
"""Prompts, sequences per prompt, prompts at once."""


def meter_of(num_prompts: int, max_sequences: int, clock: Clock) -> Meter:
    """A cell whose prompts all wait to run."""
    meter = Meter("parallel", num_prompts, Ledger(num_prompts * max_sequences), LIMIT, clock)
    for prompt in range(num_prompts):
        meter.expect(str(prompt), max_sequences)
    return meter


def seconds_left(meter: Meter) -> TimeLeft:
    time_left = meter.snapshot().time_left
    assert time_left is not None
    return time_left


@dataclass
class Server:
    """Decodes as many tokens a second of every running sequence; lengths are in tokens.

    What a sequence has decoded is reported in parts, and at its end.
    """

    meter: Meter
    clock: Clock
    waiting: list[list[float]]
    max_running: int
    rate: int = TOKENS_PER_SECOND
    part: int = TOKEN
    running: dict[str, list[float]] = field(default_factory=dict)
    decoded: dict[str, int] = field(default_factory=dict)

    def run(self) -> Iterator[Snapshot]:
        """The progress after every second but the last."""
        self._begin()
        while self.running:
            self.clock.now += 1
            for prompt, lengths in list(self.running.items()):
                self._decode(prompt, lengths)
            self._begin()
            if self.running:
                yield self.meter.snapshot()

    def _begin(self) -> None:
        while self.waiting and len(self.running) < self.max_running:
            prompt = str(len(self.decoded))
            self.running[prompt], self.decoded[prompt] = self.waiting.pop(0), 0
            self.meter.report(prompt, TokenCounts(), len(self.running[prompt]))

    def _decode(self, prompt: str, lengths: list[float]) -> None:
        self.decoded[prompt] += self.rate
        depth = self.decoded[prompt]
        whole = depth // self.part * self.part
        generated = sum(int(length) if length <= depth else whole for length in lengths)
        self.meter.report(prompt, TokenCounts(generated=generated), sum(n > depth for n in lengths))
        if depth >= max(lengths):
            self.meter.finish(prompt, solved=None)
            del self.running[prompt]


class Moment(NamedTuple):
    """After one second of a run.

    Attributes:
        share_over: of the run's seconds.
        true: seconds that are left.
    """

    snapshot: Snapshot
    share_over: float
    true: float

    @property
    def ratio(self) -> float:
        """The estimate over the truth."""
        assert self.snapshot.time_left is not None
        return self.snapshot.time_left.seconds / self.true


def moments(
    shape: tuple[int, int, int],
    draw: Draw,
    seed: int,
    rate: int = TOKENS_PER_SECOND,
    part: int = TOKEN,
) -> Iterator[Moment]:
    """Those after every second of a run."""
    num_prompts, max_sequences, max_running = shape
    rng, clock = random.Random(seed), Clock()
    lengths = [[min(draw(rng), LIMIT) for _ in range(max_sequences)] for _ in range(num_prompts)]
    meter = meter_of(num_prompts, max_sequences, clock)
    snapshots = list(Server(meter, clock, lengths, max_running, rate, part).run())
    total = len(snapshots) + 1
    for second, snapshot in enumerate(snapshots, 1):
        yield Moment(snapshot, second / total, total - second)


def test_half_a_minute_of_tokens_gives_a_bound_and_their_first_seconds_none() -> None:
    """In its first seconds a server reads prompts and decodes few tokens: hours would be left."""
    clock = Clock()
    meter = meter_of(3, 4, clock)
    meter.report("0", TokenCounts(), 4)
    clock.now += 100  # the server reads the prompts
    num_seconds = int(FIRST_PARTS_SECONDS + STEADY_SECONDS)
    for second in range(num_seconds):
        meter.report("0", TokenCounts(generated=10 + 7 * second), 4)
        assert meter.snapshot().time_left is None
        clock.now += 1
    generated = 10 + 7 * num_seconds
    meter.report("0", TokenCounts(generated=generated), 4)
    seconds = (3 * 4 * LIMIT - generated) / 7
    assert seconds_left(meter).is_bound
    assert seconds_left(meter).seconds == pytest.approx(seconds)
    minutes = round(seconds / 60)
    line = meter.snapshot().describe()
    assert line.endswith(f", at most about {minutes // 60} h {minutes % 60} min left")


@pytest.mark.parametrize(
    ("shape", "rate", "part"),
    [
        *((shape, TOKENS_PER_SECOND, part) for shape in SHAPES for part in (TOKEN, CHUNK)),
        *(((1, 8, 1), ON_A_LAPTOP, part) for part in (TOKEN, CHUNK)),
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_before_a_prompt_has_ended_the_estimate_is_a_bound_of_half_a_minute_of_tokens(
    shape: tuple[int, int, int], lengths: str, rate: int, part: int
) -> None:
    for seed in range(3):
        for moment in moments(shape, LENGTHS[lengths], seed, rate, part):
            now = moment.snapshot
            if now.num_ran:
                assert now.time_left is not None
                assert not now.time_left.is_bound
                break  # whatever the rate is
            assert (now.time_left is None) == (now.decoding_seconds < STEADY_SECONDS)
            if now.time_left is not None:
                assert now.time_left.is_bound
                assert moment.ratio >= 1


@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_after_that_half_of_the_estimates_are_within_a_factor_of_2_5_and_nine_tenths_of_3_5(
    shape: tuple[int, int, int], lengths: str
) -> None:
    """Until four fifths of the run are over: the rest depends on few sequences."""
    errors = sorted(
        abs(math.log(moment.ratio))
        for seed in range(5)
        for moment in moments(shape, LENGTHS[lengths], seed)
        if moment.snapshot.num_ran and moment.share_over < 0.8
    )
    if errors:  # else the first prompt ends after four fifths of the run
        assert errors[len(errors) // 2] < math.log(2.5)
        assert errors[len(errors) * 9 // 10] < math.log(3.5)


def test_the_rate_is_that_of_the_last_half_minute_and_at_the_end_the_average() -> None:
    clock = Clock()
    meter = meter_of(1, 2, clock)
    meter.report("0", TokenCounts(), 2)
    generated = 0
    for tokens in [100] * 60 + [10] * int(RECENT_SECONDS):
        clock.now += 1
        generated += tokens
        meter.report("0", TokenCounts(generated=generated), 2)
        rate = meter.snapshot().tokens_per_second
    assert rate == pytest.approx(10)
    for _ in range(int(RECENT_SECONDS)):  # the server is frozen
        clock.now += 1
        rate = meter.snapshot().tokens_per_second
    assert rate == 0
    meter.finish("0", solved=None)
    clock.now += 100
    assert meter.snapshot().tokens_per_second == pytest.approx(generated / 120)


def test_the_tokens_of_a_lost_answer_may_be_taken_back() -> None:
    clock = Clock()
    meter = meter_of(2, 2, clock)
    for generated in (0, 500, 20):
        clock.now += 1
        meter.report("0", TokenCounts(generated=generated), 2)
        now = meter.snapshot()
    assert (now.generated, now.tokens_per_second) == (20, 10)
    clock.now += RECENT_SECONDS
    meter.report("0", TokenCounts(generated=500), 2)
    meter.snapshot()
    clock.now += 1
    meter.report("0", TokenCounts(), 2)
    now = meter.snapshot()
    assert now.tokens_per_second == 0
    assert now.time_left is None


def test_prompts_of_an_earlier_session_do_not_count() -> None:
    clock = Clock()
    meter = Meter("parallel", 5, Ledger(10), LIMIT, clock)
    for prompt in "012":
        meter.finish(prompt, solved=True)
    for prompt in "34":
        meter.expect(prompt, 2)
    meter.report("3", TokenCounts(generated=1), 2)
    clock.now += 40
    meter.report("3", TokenCounts(generated=400), 0)
    assert seconds_left(meter) == TimeLeft(40 * (2 * 2 * LIMIT - 400) / 399, is_bound=True)
    meter.finish("3", solved=True)
    assert seconds_left(meter).seconds == pytest.approx(60)


def test_second_stages_are_estimated_once_all_grants_are_known() -> None:
    """An early grant runs long before the others; the time in between is nobody's."""
    clock = Clock()
    meter = Meter("eager", 5, Ledger(20), LIMIT, clock)
    meter.expect("0", 8)
    meter.report("0", TokenCounts(), 8)
    clock.now += 20
    meter.report("0", TokenCounts(generated=2000), 0)
    assert meter.snapshot().time_left is None
    meter.finish("0", solved=True)
    clock.now += 1000
    for prompt in "12":
        meter.finish(prompt, solved=True)  # no grant
    for prompt in "34":
        meter.expect(prompt, 1)
    meter.report("3", TokenCounts(), 1)
    assert seconds_left(meter).seconds == pytest.approx(20 / 1.5 * 1.5)
    assert meter.snapshot().average_rate == 100


def test_the_first_parts_of_sequences_are_not_in_the_rate() -> None:
    """Their seconds are not known: 64 tokens at 5 token/s take 13, after the server has read."""
    num_sequences, total, seconds = 8, 100_000, CHUNK / ON_A_LAPTOP
    clock = Clock()
    meter = meter_of(1, num_sequences, clock)
    meter.share(total)
    meter.report("0", TokenCounts(), num_sequences)
    for wave in range(1, 8):
        for sequence in range(num_sequences):
            clock.now = 20 + wave * seconds + sequence / 4
            generated = CHUNK * (num_sequences * (wave - 1) + sequence + 1)
            meter.report("0", TokenCounts(generated=generated), num_sequences)
        if wave * seconds > STEADY_SECONDS + seconds:
            true = (total - generated) / (num_sequences * ON_A_LAPTOP)
            assert seconds_left(meter).seconds == pytest.approx(true)


def test_shared_tokens_are_a_known_total() -> None:
    clock = Clock()
    meter = meter_of(4, 8, clock)
    meter.share(1000)
    for prompt in "0123":
        meter.report(prompt, TokenCounts(generated=1), 1)
    clock.now += 10
    meter.finish("0", solved=None)
    assert meter.snapshot().time_left is None
    clock.now += 30
    for prompt in "123":
        meter.report(prompt, TokenCounts(generated=53), 1)
    assert seconds_left(meter) == TimeLeft(40 * (1000 - 160) / 156)
    meter.finish("1", solved=None)
    assert seconds_left(meter) == TimeLeft(40 * (1000 - 160) / 156)
