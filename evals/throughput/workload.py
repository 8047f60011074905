"""The workloads of `evals/bench.py`: trees of many prompts at once, and plain sampling of as much.

A *delivered* token is one that a caller receives: of trees, a token that the server decoded and
that is on a sequence (a shared prefix counts once, discarded and forced tokens do not count); of
plain sampling, every token. A *decoded* token is any that the server decoded.

Plain sampling is the ceiling. For EAGer-init it does *equal work*: for every sequence of the trees
one request that continues from the same prefix and decodes as many tokens (EOS ignored), without
logprobs. And it has *equal concurrency*: a tree begins with one sequence and ends with up to M, so
as many requests run at once as sequences of the trees were alive in the mean over decoding steps:
the unique tokens divided by the longest path, times the prompts that run at once.

For a search it is Full Parallel with the same prompts and M. The search decodes fewer tokens, and
opens sequences on tokens of others, so that fewer run at once: this is part of its speed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from eager_sgl import Method, PromptResult, SamplingConfig, TokenCounts
from eager_sgl.engine.protocol import Json, generate_payload, parse_generation
from evals.throughput.steps import ServerSteps, steps_in

if TYPE_CHECKING:
    from eager_sgl import Client, EmbeddedRuntime

__all__ = [
    "Cost",
    "PlainSegment",
    "Stopwatch",
    "concurrency_of",
    "grow_trees",
    "sample_plainly",
    "segments_of",
]


@dataclass(frozen=True)
class PlainSegment:
    """The tokens that a sequence adds to its tree.

    Attributes:
        before: prompt and shared prefix.
        num_tokens: decoded after them.
    """

    before: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True)
class Cost:
    """The cost of a pass over the work.

    Attributes:
        delivered: tokens.
        seconds: wall-clock.
        client_seconds: CPU time of this process.
        counts: as the server reports them.
        server_seconds: CPU time of the server; None for one that this process did not start.
        steps: from the server's log; None as `server_seconds`.
    """

    delivered: int
    seconds: float
    client_seconds: float
    server_seconds: float | None
    counts: TokenCounts
    steps: ServerSteps | None


@dataclass(frozen=True)
class _Reading:
    seconds: float
    client_seconds: float
    server_seconds: float = 0.0
    log_bytes: int = 0


class Stopwatch:
    """Reads clocks and counters around a pass.

    Args:
        runtime: the server; None for one that this process did not start.
    """

    def __init__(self, runtime: EmbeddedRuntime | None = None) -> None:
        self._runtime = runtime

    @contextmanager
    def measured(self) -> Iterator[Callable[[int, TokenCounts], Cost]]:
        """Time the block; afterwards the callable returns the `Cost` of the delivered tokens."""
        before = self._read()
        after: list[_Reading] = []

        def measure(delivered: int, counts: TokenCounts) -> Cost:
            end = after[0]
            return Cost(
                delivered=delivered,
                seconds=end.seconds - before.seconds,
                client_seconds=end.client_seconds - before.client_seconds,
                server_seconds=end.server_seconds - before.server_seconds
                if self._runtime
                else None,
                counts=counts,
                steps=self._steps(before.log_bytes, end.log_bytes),
            )

        yield measure
        after.append(self._read())

    def _read(self) -> _Reading:
        seconds, client_seconds = time.perf_counter(), time.process_time()
        if self._runtime is None:
            return _Reading(seconds, client_seconds)
        import psutil

        server = psutil.Process(self._runtime.pid)
        used = 0.0
        for process in (server, *server.children(recursive=True)):
            times = process.cpu_times()
            used += times.user + times.system
        return _Reading(seconds, client_seconds, used, self._runtime.log_path.stat().st_size)

    def _steps(self, start: int, end: int) -> ServerSteps | None:
        if self._runtime is None:
            return None
        return steps_in(self._runtime.log_path.read_bytes()[start:end].decode(errors="replace"))


def grow_trees(
    client: Client,
    prompts: Sequence[Sequence[int]],
    method: Method,
    num_at_once: int,
    stopwatch: Stopwatch,
) -> tuple[Cost, list[PromptResult]]:
    """A method on all prompts."""
    with stopwatch.measured() as measure:
        items = list(client.map(prompts, method, concurrency=num_at_once))
    results = [item.result for item in sorted(items, key=lambda item: item.index)]
    counts = sum((result.counts for result in results), TokenCounts())
    return measure(counts.unique - counts.forced, counts), results


def sample_plainly(
    client: Client,
    segments: Sequence[PlainSegment],
    sampling: SamplingConfig,
    num_at_once: int,
    stopwatch: Stopwatch,
) -> Cost:
    """One request per segment, to its whole length, without logprobs."""
    from eager_sgl.engine.loop import run

    with stopwatch.measured() as measure:
        counts = run(_sample_all(client, segments, sampling, num_at_once))
    return measure(counts.generated, counts)


async def _sample_all(
    client: Client, segments: Sequence[PlainSegment], sampling: SamplingConfig, num_at_once: int
) -> TokenCounts:
    free, transport = asyncio.Semaphore(num_at_once), client.transports[0]

    async def sample(segment: PlainSegment) -> TokenCounts:
        async with free:
            answer = await transport.post(
                "/generate",
                lambda: _plain_request(segment, sampling),
                partial(parse_generation, logprob_temperature=1.0),
            )
        return TokenCounts(
            generated=len(answer.token_ids),
            prompt=answer.prompt_tokens,
            cached=answer.cached_tokens,
            requests=1,
        )

    return sum(await asyncio.gather(*map(sample, segments)), TokenCounts())


def _plain_request(segment: PlainSegment, sampling: SamplingConfig) -> Json:
    params = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": segment.num_tokens,
        "ignore_eos": True,
    }
    return generate_payload(segment.before, params, request_id=f"bench-{uuid.uuid4().hex}")


def segments_of(results: Iterable[PromptResult]) -> list[PlainSegment]:
    """The segments that the sequences of trees add to them, in the order of the trees."""
    segments = []
    for result in results:
        for sequence in result.sequences:
            shared = sequence.branch.position + 1 if sequence.branch else 0
            before = (*result.prompt_ids, *sequence.token_ids[:shared])
            if num_tokens := len(sequence.token_ids) - shared:
                segments.append(PlainSegment(before, num_tokens))
    return segments


def concurrency_of(results: Sequence[PromptResult], num_at_once: int) -> int:
    """Sequences alive at a decoding step, in the mean; at least 1."""
    unique = sum(result.counts.unique for result in results)
    longest = sum(max(len(s.token_ids) for s in result.sequences) for result in results)
    return max(1, round(num_at_once * unique / longest))
