"""The loop in which a schedule decides and an executor requests, until all sequences have ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from eager_sgl.budget.sequences import Account
from eager_sgl.core import Stopped
from eager_sgl.engine.client import Prompt, TokenClient
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

__all__ = ["Encoded", "Growth", "encoded", "planted"]


class Growth:
    """A prompt while it is generated."""

    def __init__(
        self,
        executor: TreeExecutor,
        schedule: Schedule,
        method: Method,
        account: Account | None,
        observers: Sequence[Observer],
    ) -> None:
        self.executor, self._schedule, self._method = executor, schedule, method
        self._account, self._observers = account, observers
        self._spent_before = account.spent if account else 0
        self.decision = Decision((), (), ())

    async def run(self, max_tokens: int | None) -> Stopped | None:
        """Generate until all sequences have ended, or the tokens are used up."""
        executor = self.executor
        await self._decide()
        if executor.tree.num_roots > 1:  # a schedule may open them when it first decides
            await executor.prefill()
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
            while await self.executor.end_opened():
                self.decision = self._schedule.replay(tree)
        if self._account is not None:
            self._account.set_spent(self._spent_before + len(self.decision.leaves))
        self._report()

    def _report(self) -> None:
        for observer in self._observers:
            observer(self.decision, self.executor.counts)

    async def stop(self) -> None:
        """End all requests; what they have decoded is put into the tree."""
        await self.executor.stop()
        self._report()


@dataclass(frozen=True)
class Encoded:
    """The tokens of a prompt, and of the texts that its method names."""

    prompt_ids: tuple[int, ...]
    observed_until: tuple[int, ...]
    reasoning_end: tuple[int, ...]
    probe: tuple[int, ...]


async def encoded(replicas: Replicas, prompt: Prompt, method: Method) -> Encoded:
    """Ask a server for the tokens.

    Raises:
        ValueError: the prompt is empty.
        ServerError: no server answers, or it has no chat template.
    """

    async def encode(client: TokenClient) -> Encoded:
        return Encoded(
            await client.encode(prompt),
            await client.marker(method.observed_until),
            await client.marker(method.reasoning_end),
            await client.marker(method.probe_text),
        )

    return await replicas.call(encode)


@contextlib.asynccontextmanager
async def planted(
    replicas: Replicas, tokens: Encoded, method: Method, limits: PromptLimits
) -> AsyncIterator[tuple[TreeExecutor, Reader]]:
    """An empty tree on a replica; the context closes what still runs at its end."""
    sampling, stops = method.sampling, StopTokens(replicas, method.sampling.stop_token_ids)
    room = replicas.profile.room_for(len(tokens.prompt_ids))
    tree = TokenTree(
        tokens.prompt_ids,
        max_new_tokens=min(sampling.max_new_tokens, room),
        policy=method.policy(),
        reasoning_end=tokens.observed_until,
        is_stop=stops,
        seed=method.seed,
        probe_ids=tokens.probe,
        probe_end=tokens.reasoning_end,
    )
    reader = Reader(replicas, tokens.reasoning_end, method.reasoning_end or "")
    executor = TreeExecutor(replicas, tree, stops, method, limits.interval_of(method))
    tree.has_sampling_logprobs = executor.has_sampling_logprobs
    try:
        yield executor, reader
    finally:
        executor.close()
