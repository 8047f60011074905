"""Clients, ledgers and streams at their ends: nothing hangs, nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest

from eager_sgl import (
    AsyncClient,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    TokenLedger,
    TrieParallel,
)
from eager_sgl import VoteUncertainty as Uncertainty
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import PlugInError, ServerUnreachableError
from eager_sgl.generate.events import Completed, SequenceOpened, TokensAppended
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.stream import Stream
from eager_sgl.generate.workers import in_worker
from tests.fakes.decoding import DecodingServer
from tests.generate.prompts import METHODS, in_loop, replicas_of

SEARCH = TrieParallel(SearchConfig(max_sequences=4, sampling=SamplingConfig(max_new_tokens=8)))
BY_VOTES = Uncertainty(lambda sequences: [s.text for s in sequences])


def client_of(server: DecodingServer) -> AsyncClient:
    client = AsyncClient("http://scripted")
    client.transports = [server]
    return client


def test_all_prompts_that_share_tokens_have_to_run() -> None:
    async def use() -> None:
        options: Any = {"budget": TokenLedger(100), "utility": BY_VOTES}
        with pytest.raises(ValueError, match="concurrency is 2 for 3 prompts"):
            await anext(
                client_of(DecodingServer()).map(["a"] * 3, SEARCH, concurrency=2, **options)
            )

    in_loop(use)


def test_a_ledger_serves_again_after_a_map_that_failed_or_was_left() -> None:
    async def use() -> int:
        ledger, options = TokenLedger(10_000), dict[str, Any](utility=BY_VOTES)
        nowhere = AsyncClient("http://127.0.0.1:9")
        with pytest.raises(ServerUnreachableError):
            await anext(nowhere.map([(9,)] * 2, SEARCH, budget=ledger, **options))
        mixed = [SEARCH, METHODS["parallel"]]
        with pytest.raises(ValueError, match="FullParallel does not bid"):
            await anext(nowhere.map([(9,)] * 2, mixed, budget=ledger, **options))
        client = client_of(DecodingServer())
        left = client.map([(9,)] * 3, SEARCH, budget=ledger, **options)
        await anext(left)
        await left.aclose()
        again = client.map([(9,)] * 2, SEARCH, budget=ledger, **options)
        return len([item.result async for item in again])

    assert in_loop(use) == 2


def test_a_rule_that_exits_fails_its_prompt_alone() -> None:
    async def use() -> None:
        with pytest.raises(PlugInError, match="SystemExit"):
            await in_worker(sys.exit)

    in_loop(use)


def test_a_client_belongs_to_a_loop() -> None:
    client = client_of(DecodingServer())
    in_loop(client.replicas)
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(client.replicas())


def test_a_closed_client_refuses_requests_at_once() -> None:
    async def use() -> None:
        transport = Transport("http://127.0.0.1:9")
        await transport.aclose()
        with pytest.raises(ServerUnreachableError, match="the client is closed"):
            await transport.get("/model_info")

    in_loop(use)


def test_no_event_is_lost_by_who_waits_for_a_moment_only() -> None:
    server = DecodingServer()

    async def use() -> tuple[dict[int, list[int]], PromptResult, tuple[int, ...]]:
        replicas = await replicas_of(server)

        num_slow = 5

        async def decode(sequences: list[tuple[int, ...]]) -> list[str]:
            nonlocal num_slow
            num_slow -= 1
            await asyncio.sleep(0.02 if num_slow > 0 else 0)
            return ["" for _ in sequences]

        stream = Stream(
            lambda observer: grow(replicas, (9,), METHODS["parallel"], observers=[observer]), decode
        )
        table: dict[int, list[int]] = {}
        while True:
            try:
                event = await asyncio.wait_for(anext(stream), 0.005)
            except TimeoutError:
                await asyncio.sleep(0.03)
                continue
            match event:
                case SequenceOpened(sequence):
                    table[sequence] = []
                case TokensAppended(sequence, _, token_ids):
                    table[sequence] += token_ids
                case Completed(result, sequences):
                    return table, result, sequences

    table, result, sequences = in_loop(use)
    assert [tuple(table[i]) for i in sequences] == [s.token_ids for s in result.sequences]


def test_questions_of_a_client_that_is_closed_are_left_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = DecodingServer()
    asked = asyncio.Event()

    async def fail_late(*request: Any, **options: Any) -> Any:
        asked.set()
        await asyncio.sleep(0.01)
        raise ServerUnreachableError("the connection was closed")

    async def use() -> None:
        replicas = await replicas_of(server)
        server.post = fail_late  # type: ignore[method-assign]
        question = asyncio.create_task(replicas.call(lambda client: client.is_stop_token(3)))
        await asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await asyncio.sleep(0.05)
        gc.collect()

    in_loop(use)
    assert "never retrieved" not in caplog.text
