"""Many prompts at once, in a budget that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from eager_sgl.budget.sequences import Account, Ledger
from eager_sgl.budget.tokens import TokenLedger
from eager_sgl.config import require_whole
from eager_sgl.core import PromptResult
from eager_sgl.engine.client import Prompt
from eager_sgl.generate.results import partial_of
from eager_sgl.methods import Method, Search
from eager_sgl.search.utility import Utility

__all__ = [
    "Budget",
    "Generate",
    "MapItem",
    "OnLeft",
    "joined",
    "map_prompts",
    "methods_of",
    "num_running",
]

CONCURRENCY = 64

Budget = Ledger | TokenLedger
Generate = Callable[[Prompt, Method, Account | None], Awaitable[PromptResult]]
OnLeft = Callable[["MapItem"], None]
"""Receives what exists of a prompt whose item was not returned before the iteration was left."""


@dataclass(frozen=True)
class MapItem:
    """A prompt of `map` that has ended.

    Attributes:
        index: of the prompt.
        prompt: as it was given.
        outcome: its result, which is partial where a limit or leaving the iteration ended it; or
            the error that ended it.
    """

    index: int
    prompt: Prompt
    outcome: PromptResult | Exception

    @property
    def result(self) -> PromptResult:
        """The result.

        Raises:
            EagerError, ValueError: the error that ended the prompt.
        """
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def methods_of(
    prompts: Sequence[Prompt],
    method: Method | Sequence[Method],
    budget: Budget | None,
    utility: Utility | None,
) -> list[Method]:
    """The method of every prompt.

    Raises:
        ValueError: the arguments do not fit together.
    """
    methods = list(method) if isinstance(method, Sequence) else [method] * len(prompts)
    if len(methods) != len(prompts):
        raise ValueError(f"{len(methods)} methods for {len(prompts)} prompts; give one per prompt")
    if not isinstance(budget, TokenLedger):
        if utility is not None:
            raise ValueError("a utility values rounds that share tokens; pass a TokenLedger too")
        return methods
    if utility is None:
        raise ValueError("prompts that share tokens bid for them; pass a utility by which they do")
    for method in methods:
        if not isinstance(method, Search):
            name = type(method).__name__
            raise ValueError(f"{name} does not bid for tokens; share them between searches")
    return methods


def num_running(num_prompts: int, budget: Budget | None, concurrency: int | None) -> int:
    """Number of prompts to run at the same time.

    Raises:
        ValueError: fewer than 1, or fewer than there are prompts that share tokens.
    """
    shares_tokens = isinstance(budget, TokenLedger)
    if concurrency is None:
        return max(1, num_prompts) if shares_tokens else CONCURRENCY
    require_whole("concurrency", concurrency, 1)
    if shares_tokens and concurrency < num_prompts:
        raise ValueError(
            f"concurrency is {concurrency} for {num_prompts} prompts that share tokens; they all "
            "have to run, since nothing is granted before all have bid"
        )
    return concurrency


def joined(methods: Sequence[Method], ledger: TokenLedger, utility: Utility) -> list[Method]:
    """Searches that bid for the tokens of a ledger.

    All join before the first starts: nothing is granted before all have bid.
    """
    bidders = [ledger.join(utility) for _ in methods]
    return [replace(m, bidder=b) for m, b in zip(methods, bidders, strict=True)]  # type: ignore[type-var]


async def map_prompts(
    prompts: Sequence[Prompt],
    methods: Sequence[Method],
    generate: Generate,
    ledger: Ledger | None,
    concurrency: int,
    on_left: OnLeft | None = None,
) -> AsyncGenerator[MapItem, None]:
    """Results as they finish.

    Args:
        generate: runs one prompt.
        ledger: of sequences; prompts take what they may still use from it.
        concurrency: number of prompts that run at the same time.
        on_left: called for every prompt that has begun, and whose item was not returned.
    """
    mapping = _Mapping(prompts, methods, generate, ledger, concurrency)
    starting = asyncio.create_task(mapping.start_all())
    try:
        for _ in prompts:
            yield await mapping.ended.get()
    finally:
        unfinished = [starting, *mapping.running]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        while on_left is not None and not mapping.ended.empty():
            on_left(mapping.ended.get_nowait())
        for method in methods:
            if method.bidder is not None:
                method.bidder.leave()  # of prompts that never started


class _Mapping:
    """The prompts of a `map`, while they run.

    Attributes:
        ended: prompts in the order in which they ended.
        running: a task per prompt.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        methods: Sequence[Method],
        generate: Generate,
        ledger: Ledger | None,
        concurrency: int,
    ) -> None:
        self.ended: asyncio.Queue[MapItem] = asyncio.Queue()
        self.running: set[asyncio.Task[None]] = set()
        self._prompts, self._methods, self._generate = prompts, methods, generate
        self._shares = None if ledger is None else _Shares(ledger, len(prompts))
        self._free = asyncio.Semaphore(concurrency)

    async def start_all(self) -> None:
        """Start every prompt as soon as fewer than `concurrency` run."""
        for index in range(len(self._prompts)):
            await self._free.acquire()
            task = asyncio.create_task(self._run(index))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def _run(self, index: int) -> None:
        prompt, method = self._prompts[index], self._methods[index]
        try:
            with self._shares.take(method) if self._shares else nullcontext() as account:
                outcome: PromptResult | Exception = await self._generate(prompt, method, account)
        except Exception as error:
            outcome = error
        except asyncio.CancelledError as error:
            if (partial := partial_of(error)) is not None:
                self.ended.put_nowait(MapItem(index, prompt, partial))
            raise
        self._free.release()
        self.ended.put_nowait(MapItem(index, prompt, outcome))


class _Shares:
    """Gives each prompt up to M sequences of a ledger, and leaves one for every later prompt."""

    def __init__(self, ledger: Ledger, num_prompts: int) -> None:
        self._ledger, self._num_later = ledger, num_prompts

    def take(self, method: Method) -> Account:
        """The sequences of the next prompt.

        Raises:
            ValueError: the ledger has fewer sequences than prompts.
        """
        self._num_later -= 1
        return self._ledger.reserve(
            max(1, min(method.max_sequences, self._ledger.free - self._num_later))
        )
