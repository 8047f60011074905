"""Functions of the user's: they do not delay other prompts, and an error in them ends their own."""

from __future__ import annotations

import asyncio
import threading
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

SEARCH: Any = METHODS["best_first"]


class Turns:
    """Functions that wait until the loop has turned, as long as it does within ten seconds."""

    reshaping = NO_RESHAPING

    def __init__(self) -> None:
        self._has_turned = threading.Event()
        self.outcomes: list[bool] = []

    def note(self) -> None:
        self._has_turned.set()

    def _wait(self) -> None:
        self._has_turned.clear()
        self.outcomes.append(self._has_turned.wait(10))

    def __call__(self, candidates: Candidates) -> Any:
        """A priority."""
        if threading.current_thread() is not threading.main_thread():  # which tries it out
            self._wait()
        return candidates.entropies

    def stop(self, tree: TokenTree, sequences: Items[Sequence]) -> bool:
        self._wait()
        return False

    def utility(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        self._wait()
        return 1.0


WAITING: dict[str, Callable[[Turns], Any]] = {
    "stop": lambda turns: replace(SEARCH, stop=turns.stop),
    "priority": lambda turns: BestFirst(SEARCH.config, priority=turns),
    "utility": lambda turns: replace(SEARCH, bidder=TokenLedger(1000).join(turns.utility)),
}


@pytest.mark.parametrize("role", WAITING)
def test_the_loop_turns_while_a_function_runs(role: str) -> None:
    turns = Turns()
    method = WAITING[role](turns)

    async def turn() -> int:
        task = asyncio.create_task(grow(await replicas_of(DecodingServer()), (9,), method))
        while not task.done():
            await asyncio.sleep(0.001)
            turns.note()
        return len((await task).sequences)

    assert in_loop(turn) == 5
    assert len(turns.outcomes) > 1, "the function was not called"
    assert all(turns.outcomes)


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
