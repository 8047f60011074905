"""Streams: their events give the result's sequences, and leaving them ends the requests."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from eager_sgl import PromptResult, TokenCounts
from eager_sgl.core import Generation
from eager_sgl.errors import ServerError
from eager_sgl.generate.events import (
    Completed,
    CostChanged,
    Event,
    SequenceOpened,
    SequenceWithdrawn,
    TokensAppended,
    TokensWithdrawn,
)
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.observers import Observer
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.stream import Stream, _Feed
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.tree import TokenTree
from tests.fakes.decoding import DecodingServer
from tests.generate.prompts import METHODS, in_loop, replicas_of

Table = dict[int, tuple[tuple[int, ...], str]]


async def stream_of(server: DecodingServer, name: str, interval: int = 3) -> Stream:
    replicas = await replicas_of(server)

    async def generate(observer: Observer) -> PromptResult:
        limits = PromptLimits(stream_interval=interval)
        return await grow(replicas, (9,), METHODS[name], limits=limits, observers=[observer])

    async def decode(sequences: Any) -> list[str]:
        return await replicas.call(lambda client: client.decode(sequences))

    return Stream(generate, decode)


def apply(table: Table, event: Event) -> None:
    match event:
        case SequenceOpened(sequence, parent, position, num_characters):
            token_ids, text = table[parent] if parent is not None else ((), "")
            table[sequence] = token_ids[:position], text[:num_characters]
        case TokensAppended(sequence, position, new_ids, new_text):
            token_ids, text = table[sequence]
            assert position == len(token_ids)
            table[sequence] = (*token_ids, *new_ids), text + new_text
        case TokensWithdrawn(sequence, position, num_characters):
            token_ids, text = table[sequence]
            table[sequence] = token_ids[:position], text[:num_characters]
        case SequenceWithdrawn(sequence):
            del table[sequence]


@pytest.mark.parametrize("model", range(4))
@pytest.mark.parametrize("name", METHODS)
def test_the_events_give_the_sequences_of_the_result(name: str, model: int) -> None:
    server = DecodingServer(model, allows_gate="gate" in name)

    async def follow() -> tuple[Table, Event]:
        table: Table = {}
        async for event in await stream_of(server, name):
            apply(table, event)
        return table, event

    table, last = in_loop(follow)
    assert isinstance(last, Completed)
    sequences = last.result.sequences
    assert [table[i][0] for i in last.sequences] == [s.token_ids for s in sequences]
    assert len(table) == len(sequences)


async def breaking(stream: Stream) -> None:
    async with stream:
        async for event in stream:
            if isinstance(event, TokensAppended):
                break


async def closing(stream: Stream) -> None:
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def raising(stream: Stream) -> None:
    async def consume() -> None:
        async with stream:
            async for _ in stream:
                raise KeyError

    with pytest.raises(KeyError):
        await consume()


@pytest.mark.parametrize("name", ["parallel", "chunk", "gate", "best_first", "best_first by gate"])
@pytest.mark.parametrize("leave", [breaking, closing, raising])
def test_leaving_a_stream_ends_its_requests_and_keeps_the_partial(leave: Any, name: str) -> None:
    server = DecodingServer(allows_gate="gate" in name)

    async def run() -> PromptResult | None:
        stream = await stream_of(server, name, interval=1)
        await leave(stream)
        assert server.running == set()
        assert stream.result is stream.result, "a result can be read twice"
        return stream.result

    result = in_loop(run)
    assert result is not None
    assert result.stopped == "cancelled"
    assert result.counts.generated == server.num_decoded


def test_a_stream_that_is_dropped_ends_its_requests() -> None:
    server = DecodingServer()

    async def run() -> None:
        async for event in await stream_of(server, "parallel", interval=1):
            if isinstance(event, TokensAppended):
                break
        del event
        gc.collect()
        await asyncio.sleep(0.2)

    in_loop(run)
    assert server.running == set()


class Deaf(DecodingServer):
    """Ignores aborts."""

    async def notify(self, path: str, body: Any) -> bool:
        return True


def test_closing_a_stream_may_be_cancelled() -> None:
    async def run() -> None:
        stream = await stream_of(Deaf(), "parallel", interval=1)
        while not isinstance(await anext(stream), TokensAppended):
            pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.aclose(), 0.02)

    in_loop(run)


def test_events_are_of_the_tokens_that_were_decided_on() -> None:
    """Tokens that arrive before the consumer looks may branch, and be taken back."""
    tree, feed = TokenTree((9,), max_new_tokens=20), _Feed()
    root = tree.open_root()
    leaves = (Leaf(0, root),)

    def append(*token_ids: int) -> None:
        tree.append(root, Generation(token_ids, None, prompt_tokens=1, cached_tokens=0), 20, 0)

    append(1, 2, 3)
    feed(Decision(leaves, (), (root,)), TokenCounts())
    append(1, 2, 3, 4, 5)
    assert [e.token_ids for e in feed.take() if isinstance(e, TokensAppended)] == [(1, 2, 3)]
    feed(Decision(leaves, (), (root,)), TokenCounts())
    assert [e.token_ids for e in feed.take() if isinstance(e, TokensAppended)] == [(4, 5)]


def test_the_last_events_are_delivered_before_the_error_of_the_prompt() -> None:
    leaves = (Leaf(0, TokenTree((9,), max_new_tokens=20).open_root()),)

    async def fail(observer: Observer) -> PromptResult:
        observer(Decision(leaves, (), ()), TokenCounts())
        raise ServerError("gone")

    async def decode(sequences: Any) -> list[str]:
        return ["" for _ in sequences]

    async def follow() -> list[type[Event]]:
        stream, kinds = Stream(fail, decode), list[type[Event]]()

        async def consume() -> None:
            async for event in stream:
                kinds.append(type(event))

        with pytest.raises(ServerError, match="gone"):
            await consume()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return kinds

    assert in_loop(follow) == [SequenceOpened, CostChanged]
