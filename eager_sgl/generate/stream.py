"""The growth of a prompt's tree as a stream of events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from eager_sgl.core import PromptResult, TokenCounts
from eager_sgl.errors import EagerError
from eager_sgl.generate.events import Completed, CostChanged, Event
from eager_sgl.generate.narration import Narrator
from eager_sgl.generate.observers import Observer
from eager_sgl.generate.results import partial_of
from eager_sgl.generate.text import Decode, Detokenizer
from eager_sgl.schedule import Decision, Leaf

__all__ = ["Stream"]


class _Feed:
    """The events of a growing tree that the consumer has not asked for yet, without texts.

    They are made with the decision: a moment later the tree may have tokens on which nothing has
    been decided, and which the next decision takes back.
    """

    def __init__(self) -> None:
        self.narrator = Narrator()
        self.leaves: tuple[Leaf, ...] = ()
        self.has_news = asyncio.Event()
        self._events: list[Event] = []

    def __call__(self, decision: Decision, counts: TokenCounts) -> None:
        self.leaves = decision.leaves
        self._events += self.narrator.update(decision.leaves)
        self._events.append(CostChanged(counts, decision.num_alive))
        self.has_news.set()

    def take(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events


class Stream:
    """The events of a prompt, see `eager_sgl.generate.events`: an asynchronous iterator.

    As a context manager it ends all requests of the tree on the server when it is left, and waits
    until that is done. Without one, the requests end when the stream is collected.

    Args:
        run: generates, and calls an observer.
        decode: token sequences -> their texts.

    Raises:
        EagerError, ValueError: while it is iterated, the error that ended the prompt.
    """

    def __init__(self, run: Callable[[Observer], Awaitable[PromptResult]], decode: Decode) -> None:
        self._run, self._detokenizer = run, Detokenizer(decode)
        self._feed = _Feed()
        self._task: asyncio.Task[PromptResult] | None = None
        self._result: PromptResult | None = None
        self._events: deque[Event] = deque()
        self._pending: list[Event] = []
        self._is_over = self._is_complete = False

    @property
    def result(self) -> PromptResult | None:
        """The result once the stream has ended, partial if it was left; None before that."""
        task = self._task
        if self._result is None and task is not None and task.done():
            try:
                self._result = task.result()
            except (Exception, asyncio.CancelledError) as error:  # a cancellation: only once
                self._result = partial_of(error)
        return self._result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all requests of the tree, and wait until they have ended."""
        self._is_complete = True
        self._events.clear()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            try:
                await asyncio.wait([self._task])  # raises its own cancellation alone
            except asyncio.CancelledError:
                self._task.cancel()
                raise

    def __del__(self) -> None:
        task = self._task
        if task is not None and not task.done() and not task.get_loop().is_closed():
            task.get_loop().call_soon_threadsafe(task.cancel)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._is_complete:
                raise StopAsyncIteration
            await self._refill()
        return self._events.popleft()

    async def _refill(self) -> None:
        """Wait for news of the tree, and make the events of all of them."""
        if self._task is None:
            self._task = asyncio.create_task(_observed(self._run, self._feed))
        if not self._pending and not self._is_over:
            await self._feed.has_news.wait()
            self._feed.has_news.clear()
            self._is_over = self._task.done()
            self._pending = self._feed.take()
        if self._pending:
            await self._add_texts()
        elif self._is_over:  # not with the last events, which an error would take along
            self._is_complete = True
            self._events.append(self._completed(self._task.result()))

    async def _add_texts(self) -> None:
        try:
            self._events += await self._detokenizer.add_texts(self._pending)
        except EagerError:
            await self.aclose()
            raise
        self._pending = []  # not before: the caller may have given up waiting for the texts

    def _completed(self, result: PromptResult) -> Completed:
        feed = self._feed
        kept = [leaf for leaf in feed.leaves if leaf.segment.end or not result.stopped]
        return Completed(result, feed.narrator.sequence_ids(kept))


async def _observed(
    run: Callable[[Observer], Awaitable[PromptResult]], feed: _Feed
) -> PromptResult:
    """Generate; not a method, so that a stream that was left can be collected."""
    asyncio.current_task().add_done_callback(lambda _: feed.has_news.set())  # type: ignore[union-attr]
    return await run(feed)
