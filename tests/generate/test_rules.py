"""Functions of the user's: they do not delay other prompts, and an error in them ends their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

import pytest

from eager_sgl import BestFirst, PromptResult, TokenLedger
from eager_sgl.core import Sequence
from eager_sgl.engine.loop import run
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.results import partial_of
from eager_sgl.search.frontier import NO_RESHAPING, Candidates
from eager_sgl.tree import TokenTree
from tests.fakes.decoding import DecodingServer
from tests.generate.prompts import METHODS, in_loop, replicas_of

SECONDS = 0.2
SEARCH: Any = METHODS["best_first"]


class SlowPriority:
    reshaping = NO_RESHAPING
    num_calls = 0

    def __call__(self, candidates: Candidates) -> Any:
        self.num_calls += 1
        if self.num_calls > 2:  # the first calls try it out
            time.sleep(SECONDS)
        return candidates.entropies


def slow_stop(tree: TokenTree, sequences: Items[Sequence]) -> bool:
    time.sleep(SECONDS)
    return False


def slow_utility(tree: TokenTree, sequences: Items[Sequence]) -> float:
    time.sleep(SECONDS)
    return 1.0


SLOW: dict[str, Callable[[], Any]] = {
    "stop": lambda: replace(SEARCH, stop=slow_stop),
    "priority": lambda: BestFirst(SEARCH.config, priority=SlowPriority()),
    "utility": lambda: replace(SEARCH, bidder=TokenLedger(1000).join(slow_utility)),
}


@pytest.mark.parametrize("role", SLOW)
def test_a_slow_function_does_not_delay_the_loop(role: str) -> None:
    method = SLOW[role]()

    async def measure() -> tuple[float, float]:
        replicas, loop = await replicas_of(DecodingServer()), asyncio.get_running_loop()
        started = loop.time()
        task = asyncio.create_task(grow(replicas, (9,), method))
        delays = []
        while not task.done():
            before = loop.time()
            await asyncio.sleep(0.005)
            delays.append(loop.time() - before)
        assert len((await task).sequences) == 5
        return max(delays), loop.time() - started

    delay, seconds = in_loop(measure)
    assert seconds > 2 * SECONDS, "the function was not called"
    assert delay < SECONDS / 2


def test_functions_that_run_searches_do_not_wait_for_each_other() -> None:
    replicas = in_loop(lambda: replicas_of(DecodingServer()))
    inner: list[int] = []

    def searching_stop(tree: TokenTree, sequences: Items[Sequence]) -> bool:
        inner.append(len(run(grow(replicas, (9, 9), SEARCH)).sequences))
        return True

    async def search_all() -> list[PromptResult]:
        method = replace(SEARCH, stop=searching_stop)
        return await asyncio.gather(*(grow(replicas, (9,), method) for _ in range(12)))

    results = in_loop(search_all)
    assert len(results) == 12
    assert len(inner) >= 12
    assert set(inner) == {5}


def failing_stop(tree: TokenTree, sequences: Items[Sequence]) -> bool:
    raise RuntimeError("no rule")


def test_a_function_that_raises_ends_its_prompt_and_its_requests_alone() -> None:
    server = DecodingServer()

    async def generate() -> tuple[PromptResult | None, PromptResult]:
        replicas = await replicas_of(server)
        other = asyncio.create_task(grow(replicas, (9, 9), METHODS["parallel"]))
        with pytest.raises(RuntimeError, match="no rule") as caught:
            await grow(replicas, (9,), replace(SEARCH, stop=failing_stop))
        return partial_of(caught.value), await other

    partial, other = in_loop(generate)
    assert partial is not None
    assert partial.stopped == "error"
    assert partial.counts.generated > 0
    assert other.stopped is None
    assert len(other.sequences) == 5
    assert server.running == set()


def test_the_requests_of_a_prompt_whose_observer_raises_are_aborted() -> None:
    server = DecodingServer()

    def raises(decision: object, counts: object) -> None:
        if server.num_decoded > 20:
            raise RuntimeError("no progress")

    async def generate() -> PromptResult | None:
        replicas = await replicas_of(server)
        limits = PromptLimits(stream_interval=2)
        with pytest.raises(RuntimeError, match="no progress") as caught:
            await grow(replicas, (9,), METHODS["parallel"], limits=limits, observers=[raises])
        return partial_of(caught.value)

    partial = in_loop(generate)
    assert partial is not None
    assert partial.counts.generated == server.num_decoded
    assert server.running == set()
    assert server.aborted
