"""The loop in which a schedule decides and an executor requests, until all sequences have ended."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from eager_sgl import core
from eager_sgl.budget.sequences import Account
from eager_sgl.config import require, require_whole
from eager_sgl.core import PromptResult, Stopped, TokenCounts
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.limits import ABORT_TIMEOUT
from eager_sgl.engine.replicas import Replicas
from eager_sgl.errors import ServerError
from eager_sgl.generate.executor import TreeExecutor
from eager_sgl.generate.reading import Reader
from eager_sgl.generate.stops import StopTokens
from eager_sgl.generate.workers import in_worker
from eager_sgl.methods import Method
from eager_sgl.schedule import Decision, Leaf, Schedule, deferred_branches, sequences_of
from eager_sgl.tree import TokenTree

__all__ = [
    "Growth",
    "Limits",
    "Observer",
    "OnProgress",
    "finished",
    "grow",
    "partial_of",
    "planted",
    "progress_of",
]

OnProgress = Callable[[TokenCounts, int], None]
"""(cost so far, number of running sequences) -> None; called whenever a part of an answer comes."""

PARTS_OF_MAX_TOKENS = 16
"""A running request reports its tokens so often that `max_tokens` is exceeded by a part at most."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a prompt may use; its result is then partial.

    Attributes:
        timeout: seconds from the start; None for no limit.
        max_tokens: generated tokens, discarded ones included; None for no limit. It is exceeded by
            what running requests decode between two parts of their answers.
        stream_interval: tokens after which a running request reports what it has decoded; 0 for
            about two seconds of decoding; None for no reports before its end.
    """

    timeout: float | None = None
    max_tokens: int | None = None
    stream_interval: int | None = None

    def __post_init__(self) -> None:
        require(
            self.timeout is None or 0 < self.timeout < math.inf,
            "timeout",
            self.timeout,
            "None, or a finite number of seconds above 0",
        )
        if self.max_tokens is not None:
            require_whole("max_tokens", self.max_tokens, 1)
        if self.stream_interval is not None:
            require_whole("stream_interval", self.stream_interval, 0)

    def interval_of(self, method: Method) -> int | None:
        """The stream interval of a method's requests."""
        if self.max_tokens is None:
            return self.stream_interval
        fine = max(1, self.max_tokens // (PARTS_OF_MAX_TOKENS * method.max_sequences))
        return min(fine, self.stream_interval or fine)


UNLIMITED = Limits()


class Observer(Protocol):
    """Sees the tree of a prompt while it grows."""

    def __call__(self, decision: Decision, counts: TokenCounts) -> None:
        """A part of an answer has arrived."""


def progress_of(on_progress: OnProgress) -> Observer:
    """An observer that reports the cost and the number of running sequences."""

    def observe(decision: Decision, counts: TokenCounts) -> None:
        on_progress(counts, decision.num_alive)

    return observe


class Growth:
    """A prompt while it is generated.

    Args:
        prefills: whether the prompt is put into the radix tree first, for several requests that
            start at once.
    """

    def __init__(
        self,
        executor: TreeExecutor,
        schedule: Schedule,
        method: Method,
        account: Account | None,
        observers: Sequence[Observer],
        *,
        prefills: bool = False,
    ) -> None:
        self._prefills = prefills
        self.executor, self._schedule, self._method = executor, schedule, method
        self._account, self._observers = account, observers
        self._spent_before = account.spent if account else 0
        self.decision = Decision((), (), ())

    async def run(self, max_tokens: int | None) -> Stopped | None:
        """Generate until all sequences have ended, or the tokens are used up."""
        executor = self.executor
        if self._prefills:
            await executor.prefill()
        await self._decide()
        while self.decision.num_alive or self.decision.bid:
            if max_tokens is not None and executor.counts.generated >= max_tokens:
                return "max_tokens"
            executor.submit(self.decision)
            if self.decision.num_alive:
                is_decisive = await executor.wait()
            else:
                assert self.decision.bid is not None
                await asyncio.shield(asyncio.wrap_future(self.decision.bid))
                is_decisive = True
            if is_decisive:
                await self._decide()
            else:
                self._report()
        await executor.wait_for_all()
        return None

    async def _decide(self) -> None:
        tree = self.executor.tree
        if self._method.decides_in_thread:
            self.decision = await in_worker(lambda: self._schedule.replay(tree))
        else:
            self.decision = self._schedule.replay(tree)
        if self._account is not None:
            num_used = self._spent_before + len(self.decision.leaves)
            self._account.commit(num_used - self._account.spent)
        self._report()

    def _report(self) -> None:
        for observer in self._observers:
            observer(self.decision, self.executor.counts)

    async def stop(self) -> None:
        """End all requests; what they have decoded is put into the tree."""
        await self.executor.stop()
        self._report()


async def grow(
    replicas: Replicas,
    prompt: Prompt,
    method: Method,
    *,
    account: Account | None = None,
    limits: Limits = UNLIMITED,
    observers: Sequence[Observer] = (),
) -> PromptResult:
    """The sequences of a prompt by a method.

    Raises:
        ValueError: the prompt is empty, the account is spent, or a rule of the user's returns
            something else than its role requires.
        RequestRejectedError: the prompt leaves no room in the model's context.
        ServerError: no server answers, or one refused a request.
    """
    with method.bidder or contextlib.nullcontext():  # left even if the prompt is refused
        max_sequences = _max_sequences(method, account)
        prompt_ids = await replicas.call(lambda client: client.encode(prompt))
        async with planted(replicas, prompt_ids, method, limits) as (executor, reader):
            schedule = await _schedule(method, executor.tree, max_sequences, reader)
            prefills = len(executor.tree.segments) > 1
            growth = Growth(executor, schedule, method, account, observers, prefills=prefills)
            return await finished(growth, reader, method, max_sequences, limits)


@contextlib.asynccontextmanager
async def planted(
    replicas: Replicas, prompt_ids: tuple[int, ...], method: Method, limits: Limits
) -> AsyncIterator[tuple[TreeExecutor, Reader]]:
    """An empty tree on a replica; the context closes what still runs at its end."""

    async def marker(text: str | None) -> tuple[int, ...]:
        return await replicas.call(lambda client: client.marker(text))

    sampling, stops = method.sampling, StopTokens(replicas, method.sampling.stop_token_ids)
    room = replicas.profile.room_for(len(prompt_ids))
    tree = TokenTree(
        prompt_ids,
        max_new_tokens=min(sampling.max_new_tokens, room),
        policy=method.policy(),
        reasoning_end=await marker(method.observed_until),
        is_stop=stops,
        seed=method.seed,
    )
    reader = Reader(replicas, await marker(method.reasoning_end), method.reasoning_end or "")
    executor = TreeExecutor(replicas, tree, stops, method, limits.interval_of(method))
    try:
        yield executor, reader
    finally:
        executor.close()


async def finished(
    growth: Growth, reader: Reader, method: Method, max_sequences: int, limits: Limits
) -> PromptResult:
    """The whole result of a growth, or what exists when its time or tokens are used up.

    Raises:
        Exception, CancelledError: with what exists by then, see `partial_of`.
    """
    stopped: Stopped | None = None
    try:
        try:
            async with asyncio.timeout(limits.timeout) as scope:
                stopped = await growth.run(limits.max_tokens)
        except TimeoutError:
            if not scope.expired():
                raise
            stopped = "timeout"
        if stopped:
            await growth.stop()
        return await _result(growth, reader, method, max_sequences, stopped)
    except (Exception, asyncio.CancelledError) as error:
        await growth.executor.stop()  # without a report: the error may be an observer's
        stopped = "error" if isinstance(error, Exception) else "cancelled"
        partial = await _result(growth, reader, method, max_sequences, stopped)
        error.partial = partial  # type: ignore[union-attr]
        raise


async def _result(
    growth: Growth,
    reader: Reader,
    method: Method,
    max_sequences: int,
    stopped: Stopped | None,
) -> PromptResult:
    executor, decision = growth.executor, growth.decision
    tree, monitoring = executor.tree, method.monitoring
    leaves = [leaf for leaf in decision.leaves if leaf.segment.end or not stopped]
    if method.bidder is not None:
        method.bidder.leave(tree.spent.generated)
    keeps_deferred = monitoring is not None and monitoring.deferred_threshold is not None
    result = PromptResult(
        prompt_ids=tree.prompt_ids,
        sequences=await _sequences(reader, leaves, stopped),
        counts=tree.counts(leaf.segment for leaf in leaves),
        max_sequences=max_sequences,
        deferred=deferred_branches(leaves) if keeps_deferred else (),
        monitor=executor.monitor,
        entropy_histogram=decision.entropy_histogram,
        stopped=stopped,
    )
    return method.annotate(result, tree)


async def _sequences(
    reader: Reader, leaves: Sequence[Leaf], stopped: Stopped | None
) -> tuple[core.Sequence, ...]:
    """The sequences of leaves; of a partial result without texts if no server decodes them."""
    if not stopped:
        return await reader.sequences(leaves)
    try:
        async with asyncio.timeout(ABORT_TIMEOUT):
            return await reader.sequences(leaves)
    except (ServerError, TimeoutError):
        return sequences_of(leaves)


async def _schedule(
    method: Method, tree: TokenTree, max_sequences: int, reader: Reader
) -> Schedule:
    """The schedule of a method; searches try the functions of the user's."""

    def make() -> Schedule:
        return method.schedule(tree, max_sequences, reader.read)

    return await in_worker(make) if method.decides_in_thread else make()


def _max_sequences(method: Method, account: Account | None) -> int:
    if account is None:
        return method.max_sequences
    if account.granted <= account.spent:
        raise ValueError(f"the account's {account.granted} sequences are all spent")
    return min(method.max_sequences, account.granted - account.spent)


def partial_of(error: BaseException) -> PromptResult | None:
    """The partial result of a prompt that an exception has ended; None without any.

    Args:
        error: that ended the prompt; an `asyncio.CancelledError`, a `TimeoutError` that a
            cancellation became, and a `KeyboardInterrupt` among them.
    """
    seen: BaseException | None = error
    while seen is not None:
        partial: PromptResult | None = getattr(seen, "partial", None)
        if partial is not None:
            return partial
        seen = seen.__cause__ or seen.__context__
    return None
