"""Many prompts at once: their order, failures, budgets, concurrency, and leaving early."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Items

import pytest

from eager_sgl import Ledger, Method, PromptResult, TokenLedger
from eager_sgl.budget.sequences import Account
from eager_sgl.core import Sequence
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.replicas import Replicas
from eager_sgl.generate.mapping import Budget, MapItem, joined, map_prompts, methods_of
from eager_sgl.generate.prompt import grow
from eager_sgl.tree import TokenTree
from tests.fakes.decoding import DecodingServer
from tests.fakes.waiting import until
from tests.generate.prompts import METHODS, in_loop, replicas_of

PROMPTS: list[Prompt] = [(9,) * number for number in range(1, 9)]


class Mapping:
    """Runs prompts, and records how many run at the same time."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self.num_running = self.max_running = 0

    async def generate(
        self, prompt: Prompt, method: Method, account: Account | None
    ) -> PromptResult:
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            return await grow(self._replicas, prompt, method, account=account)
        finally:
            self.num_running -= 1


async def mapped(
    server: DecodingServer,
    prompts: Items[Prompt],
    method: Method,
    *,
    budget: Budget | None = None,
    concurrency: int = 64,
    max_items: int | None = None,
) -> tuple[list[MapItem], Mapping]:
    """The first items of prompts by a method."""
    mapping = Mapping(await replicas_of(server))
    utility = constant if isinstance(budget, TokenLedger) else None
    methods = methods_of(prompts, method, budget, utility)
    if isinstance(budget, TokenLedger):
        methods = joined(methods, budget, constant)
    ledger = budget if isinstance(budget, Ledger) else None
    mapped = map_prompts(prompts, methods, mapping.generate, ledger, concurrency)
    items: list[MapItem] = []
    async for item in mapped:
        items.append(item)
        if len(items) == max_items:
            break
    await mapped.aclose()
    return items, mapping


def constant(tree: TokenTree, sequences: Items[Sequence]) -> float:
    return 1.0


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_all_prompts_have_results_and_no_more_run_than_allowed(concurrency: int) -> None:
    server = DecodingServer()
    items, mapping = in_loop(
        lambda: mapped(server, PROMPTS, METHODS["chunk"], concurrency=concurrency)
    )
    assert sorted(item.index for item in items) == list(range(len(PROMPTS)))
    assert [item.result.prompt_ids for item in items] == [item.prompt for item in items]
    assert sum(item.result.counts.generated for item in items) == server.num_decoded
    assert mapping.max_running == min(concurrency, len(PROMPTS))
    if concurrency == 1:
        assert [item.index for item in items] == list(range(len(PROMPTS)))


def test_items_come_as_prompts_finish() -> None:
    async def generate(prompt: Prompt, method: Method, account: Account | None) -> PromptResult:
        await asyncio.sleep(0.02 * (4 - len(prompt)))
        raise RuntimeError

    async def indices() -> list[int]:
        methods = [METHODS["parallel"]] * 3
        items = map_prompts(PROMPTS[:3], methods, generate, None, 3)
        return [item.index async for item in items]

    assert in_loop(indices) == [2, 1, 0]


def test_a_prompt_that_fails_does_not_end_the_others() -> None:
    prompts: list[Prompt] = [(9,), (), (9, 9), (10**9,)]
    items, _ = in_loop(lambda: mapped(DecodingServer(), prompts, METHODS["chunk"]))
    outcomes = {item.index: item.outcome for item in items}
    failed = {index for index, outcome in outcomes.items() if isinstance(outcome, Exception)}
    assert failed == {1, 3}
    with pytest.raises(ValueError, match="empty"):
        next(item for item in items if item.index == 1).result  # noqa: B018


def test_prompts_share_a_ledger_of_sequences() -> None:
    ledger = Ledger(12)
    items, _ = in_loop(
        lambda: mapped(DecodingServer(), PROMPTS, METHODS["parallel"], budget=ledger, concurrency=2)
    )
    sizes = [len(item.result.sequences) for item in items]
    assert sum(sizes) == ledger.spent == 12
    assert ledger.reserved == 0
    assert min(sizes) >= 1


def test_prompts_share_tokens() -> None:
    ledger = TokenLedger(600)
    items, _ = in_loop(
        lambda: mapped(DecodingServer(), PROMPTS, METHODS["trie_parallel"], budget=ledger)
    )
    spent = sum(item.result.counts.generated for item in items)
    assert ledger.spent == spent
    assert 500 <= spent <= 640
    assert len({len(item.result.sequences) for item in items}) > 1


@pytest.mark.parametrize("name", METHODS)
def test_leaving_early_ends_the_other_prompts(name: str) -> None:
    server = DecodingServer(allows_gate="gate" in name)
    items, mapping = in_loop(
        lambda: mapped(server, PROMPTS, METHODS[name], concurrency=3, max_items=2)
    )
    assert len(items) == 2
    assert mapping.num_running == 0
    assert server.running == set()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_exists_is_received_when_a_map_is_left(name: str, is_cancelled: bool) -> None:
    server = DecodingServer(allows_gate="gate" in name)
    left: list[MapItem] = []

    async def leave() -> list[MapItem]:
        mapping = Mapping(await replicas_of(server))
        methods = [METHODS[name]] * 3
        prompts = map_prompts(PROMPTS[:3], methods, mapping.generate, None, 2, left.append)
        if is_cancelled:
            task = asyncio.ensure_future(anext(prompts))
            await until(lambda: server.num_decoded >= 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return []
        item = await anext(prompts)
        await until(lambda: len(server.running) >= 2)  # of the second prompt and the third
        await prompts.aclose()
        return [item]

    returned = in_loop(leave)
    assert {item.index for item in [*returned, *left]} >= {0, 1}
    assert len({item.index for item in [*returned, *left]}) == len(returned) + len(left)
    assert any(item.result.stopped == "cancelled" for item in left)
    counted = sum(item.result.counts.generated for item in [*returned, *left])
    assert counted == server.num_decoded
    assert server.running == set()


def test_a_cancelled_map_leaves_nothing() -> None:
    server = DecodingServer()

    async def cancel() -> None:
        task = asyncio.create_task(mapped(server, PROMPTS, METHODS["chunk"], concurrency=3))
        while not server.running:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)

    in_loop(cancel)
    assert server.running == set()
