"""Trees whose server fails continue on another: nothing is lost, and nothing is counted twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eager_sgl import EagerConfig, EagerInit, FullParallel, Method, PromptResult, SamplingConfig
from eager_sgl.engine import limits
from eager_sgl.engine.replicas import Replicas
from eager_sgl.errors import ServerUnreachableError
from eager_sgl.generate.prompt import grow
from tests.fakes.replicas import Replica, connected, servers
from tests.fakes.waiting import until

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=40)
METHODS: dict[str, Method] = {
    "parallel": FullParallel(SAMPLING, 8),
    "chunks": EagerInit(
        EagerConfig(
            threshold=0.9, max_sequences=8, chunk_tokens=4, sampling=SAMPLING, monitor="chunk"
        )
    ),
    "gate": EagerInit(
        EagerConfig(threshold=0.9, max_sequences=8, sampling=SAMPLING, monitor="gate")
    ),
}
NUM_TREES = 8


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PING_PAUSE", 0.001)


async def fail_in_turn(fakes: list[Replica], replicas: Replicas, num_generated: int) -> None:
    """Take one server down at a time, after some requests each, and up again.

    The next outage begins when the client has noticed the end of the last one: however slow the
    machine is, two servers are always up.
    """
    for turn in range(1000):
        fake = fakes[turn % len(fakes)]
        target = len(fake.requests) + num_generated
        while len(fake.requests) < target:
            await asyncio.sleep(0)
        fake.is_up = False
        await noticed(replicas, fake.url, is_down=True)
        fake.is_up = True
        await noticed(replicas, fake.url, is_down=False)


async def noticed(replicas: Replicas, url: str, *, is_down: bool) -> None:
    await until(lambda: (url in replicas.down) == is_down)


async def trees(replicas: Replicas, method: Method) -> list[PromptResult]:
    growing = (grow(replicas, (9,), method) for _ in range(NUM_TREES))
    return await asyncio.wait_for(asyncio.gather(*growing), 60)


def num_decoded(fake: Replica, before: int) -> int:
    """Tokens decoded since then, without those of requests that probe a server or its tokens."""
    return sum(
        len(request["output_ids"])
        for request in fake.requests[before:]
        if "stop_token_ids" in request["sampling_params"]
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("num_generated", [3, 11])
def test_trees_survive_servers_that_fail_in_turn(name: str, num_generated: int) -> None:
    method = METHODS[name]

    async def scenario() -> None:
        fakes = servers(3, allows_gate=True)
        replicas = await connected(*fakes)
        before = [len(fake.requests) for fake in fakes]
        failing = asyncio.create_task(fail_in_turn(fakes, replicas, num_generated))
        results = await trees(replicas, method)
        failing.cancel()
        await replicas.aclose()
        assert len(results) == NUM_TREES
        for result in results:
            assert result.stopped is None
            assert all(sequence.finish_reason for sequence in result.sequences)
            assert result.counts.unique + result.counts.discarded - result.counts.forced == (
                result.counts.generated
            )
        delivered = sum(result.counts.generated for result in results)
        decoded = sum(map(num_decoded, fakes, before))
        # What a server decoded when it failed was never delivered; nothing is counted twice.
        assert 0 < delivered <= decoded

    asyncio.run(scenario())


def test_all_trees_of_a_server_that_hangs_move() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        growing = asyncio.create_task(trees(replicas, METHODS["chunks"]))
        while len(fakes[0].running) < NUM_TREES:
            await asyncio.sleep(0)
        left = set(fakes[0].running)
        fakes[0].hangs = True
        results = await growing
        assert len(results) == NUM_TREES
        fakes[0].hangs = False
        await until(lambda: not replicas.down)
        aborted = {body["rid"] for _, body in fakes[0].notified}
        assert aborted >= left, "requests were left running"
        await replicas.aclose()

    asyncio.run(scenario())


class Stubborn(Replica):
    """Answers requests that were cancelled, as if the cancellation had come too late."""

    async def post(self, *request: Any, **options: Any) -> Any:
        try:
            return await super().post(*request, **options)
        except asyncio.CancelledError:
            raise ServerUnreachableError(f"{self.url} closed the connection") from None


@pytest.mark.parametrize("name", METHODS)
def test_answers_after_the_move_are_not_used(name: str) -> None:
    async def scenario() -> None:
        fakes = [Stubborn(f"http://replica-{index}", allows_gate=True) for index in range(2)]
        replicas = await connected(*fakes)
        growing = asyncio.create_task(trees(replicas, METHODS[name]))
        while not fakes[0].running:
            await asyncio.sleep(0)
        fakes[0].hangs = True
        assert [result.stopped for result in await growing] == [None] * NUM_TREES
        fakes[0].hangs = False
        await replicas.aclose()

    asyncio.run(scenario())
