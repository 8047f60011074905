"""Two real servers of one client: one is stopped, killed, and returns with other weights.

The second server also takes the part of a runtime at a host's name that loses a process, since a
start takes a minute of a core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from eager_sgl import AsyncClient, EagerConfig, EagerInit, SamplingConfig
from eager_sgl.errors import ServerUnsuitableError
from evals.tasks import find_task
from tests.conftest import API_KEY, REASONER
from tests.embedded.running import assert_it_ends_with, assert_it_serves_at
from tests.fakes.waiting import until
from tests.faults.servers import Server

pytestmark = pytest.mark.integration

WORDY = REASONER.parent / "wordy_model"
OTHER_WEIGHTS = "serves other weights than"
PROMPTS = [sample.prompt for sample in find_task("countdown").load(16, None, 1)]
SAMPLING = SamplingConfig(temperature=0.0, max_new_tokens=200)
METHOD = EagerInit(EagerConfig(threshold=0.7, max_sequences=4, sampling=SAMPLING))

Tree = list[tuple[tuple[int, ...], int | None]]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A second server, with whatever a test has left on it."""
    server = Server(tmp_path_factory.mktemp("second") / "runtime.log", API_KEY, "localhost")
    yield server
    server.close()


@pytest.fixture
def other(second: Server) -> Server:
    """A second server of the same model."""
    second.restore()
    return second


async def trees(client: AsyncClient) -> dict[int, Tree]:
    """The trees of all prompts, which are greedy."""
    grown: dict[int, Tree] = {}
    async for item in client.map(PROMPTS, METHOD):
        assert item.index not in grown
        assert not item.result.stopped
        grown[item.index] = [(s.token_ids, s.parent) for s in item.result.sequences]
    return grown


async def begun(client: AsyncClient, server: Server) -> asyncio.Task[dict[int, Tree]]:
    """The trees of all prompts, once some of them live on a server."""
    growing = asyncio.create_task(trees(client))

    async def has_tree() -> bool:
        assert not growing.done(), f"no tree lives on {server.url}"
        return bool(await asyncio.to_thread(server.num_running))

    await until(has_tree)
    return growing


@pytest.fixture(scope="module")
def undisturbed(server_url: str) -> dict[int, Tree]:
    async def grown() -> dict[int, Tree]:
        async with AsyncClient(server_url, api_key=API_KEY) as client:
            return await trees(client)

    return asyncio.run(grown())


def test_trees_of_a_stopped_replica_move_and_it_is_taken_in_again(
    server_url: str, other: Server, undisturbed: dict[int, Tree]
) -> None:
    async def scenario() -> None:
        async with AsyncClient([other.url, server_url], api_key=API_KEY) as client:
            replicas = await client.replicas()
            growing = await begun(client, other)
            with other.stopped():
                assert await asyncio.wait_for(growing, 60) == undisturbed
                assert set(replicas.down) == {other.url}
            await until(lambda: not replicas.down, seconds=60)
            assert other.seconds_until_idle(5.0) is not None, "requests were left running"
            assert await (await begun(client, other)) == undisturbed

    asyncio.run(scenario())


def test_trees_of_a_killed_replica_move_and_other_weights_are_refused(
    server_url: str, other: Server, undisturbed: dict[int, Tree]
) -> None:
    async def scenario() -> None:
        async with AsyncClient([other.url, server_url], api_key=API_KEY) as client:
            replicas = await client.replicas()
            growing = await begun(client, other)
            other.kill()
            assert await asyncio.wait_for(growing, 60) == undisturbed
            assert set(replicas.down) == {other.url}
            await asyncio.to_thread(other.restart, WORDY)
            await until(lambda: OTHER_WEIGHTS in str(replicas.down[other.url]), seconds=30)

    asyncio.run(scenario())
    with pytest.raises(ServerUnsuitableError, match=OTHER_WEIGHTS):
        asyncio.run(AsyncClient([server_url, other.url], api_key=API_KEY).__aenter__())


def test_a_runtime_at_a_hosts_name_ends_with_its_detokenizer(second: Server) -> None:
    assert_it_serves_at("localhost", second.runtime)
    assert_it_ends_with("sglang::detokenizer", "the detokenizer", second.runtime)
