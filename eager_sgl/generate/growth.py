"""The loop in which a schedule decides and an executor requests, until all sequences have ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from eager_sgl.budget.sequences import Account
from eager_sgl.core import Stopped
from eager_sgl.engine.replicas import Replicas
from eager_sgl.generate.executor import TreeExecutor
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.observers import Observer
from eager_sgl.generate.reading import Reader
from eager_sgl.generate.stops import StopTokens
from eager_sgl.generate.workers import in_worker
from eager_sgl.methods import Method
from eager_sgl.schedule import Decision, Schedule
from eager_sgl.tree import TokenTree

__all__ = ["Growth", "planted"]


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
        executor.submit(self.decision)  # aborts what the last decision has left
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
            self._account.commit(max(0, num_used - self._account.spent))  # some may be left again
        self._report()

    def _report(self) -> None:
        for observer in self._observers:
            observer(self.decision, self.executor.counts)

    async def stop(self) -> None:
        """End all requests; what they have decoded is put into the tree."""
        await self.executor.stop()
        self._report()


@contextlib.asynccontextmanager
async def planted(
    replicas: Replicas, prompt_ids: tuple[int, ...], method: Method, limits: PromptLimits
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
    tree.has_sampling_logprobs = executor.has_sampling_logprobs
    try:
        yield executor, reader
    finally:
        executor.close()
