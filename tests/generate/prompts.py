"""Prompts that are generated in tasks of the loop of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    Method,
    Probing,
    SamplingConfig,
    SearchConfig,
    Vote,
)
from eager_sgl import Sequence as Generated
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.loop import run
from eager_sgl.engine.replicas import Replicas
from tests.fakes.decoding import DecodingServer
from tests.fakes.scripted import VOCABULARY
from tests.fakes.searches import search_of

__all__ = ["METHODS", "in_loop", "replicas_of"]

_T = TypeVar("_T")

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=40)
FIELDS: dict[str, Any] = {
    "max_sequences": 5,
    "top_k": VOCABULARY,
    "reasoning_end": None,
    "sampling": SAMPLING,
}


def first_tokens(sequences: Sequence[Generated]) -> list[int]:
    return [sequence.token_ids[0] for sequence in sequences]


def last_tokens(sequences: Sequence[Generated]) -> list[int | None]:
    return [sequence.token_ids[-1] % 2 for sequence in sequences]


METHODS: dict[str, Method] = {
    "parallel": FullParallel(SAMPLING, 5, reasoning_end=None),
    "chunk": EagerInit(EagerConfig(threshold=1.0, monitor="chunk", chunk_tokens=6, **FIELDS)),
    "gate": EagerInit(EagerConfig(threshold=1.0, monitor="gate", **FIELDS)),
    "best_first": BestFirst(SearchConfig(**FIELDS)),
    "best_first by gate": BestFirst(SearchConfig(monitor="gate", **FIELDS)),
    "trie_parallel": search_of("trie_parallel", **FIELDS),
    "vote by gate": Vote(
        SearchConfig(**FIELDS), answers=first_tokens, rule=lambda votes: len(votes) > 1, ahead=2
    ),
    "probed vote": Vote(
        SearchConfig(**FIELDS),
        answers=last_tokens,
        rule=lambda votes: len(votes) > 3,
        probing=Probing(text="</think>", interval=8, stable=2, max_answer_tokens=3),
    ),
}


async def replicas_of(server: DecodingServer) -> Replicas:
    replicas = Replicas.of(await TokenClient.connect(server))
    server.num_decoded = 0
    return replicas


def in_loop(work: Callable[[], Awaitable[_T]]) -> _T:
    """The value of a coroutine, whose tasks must end by themselves."""

    async def watched() -> _T:
        before = asyncio.all_tasks()
        value = await work()
        async with asyncio.timeout(5):
            while not asyncio.all_tasks() <= before:  # notices that nothing waits for
                await asyncio.sleep(0.001)
        return value

    return run(asyncio.wait_for(watched(), 60))
