"""Work that ends with its client's connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eager_sgl.server.traffic.guard import while_connected


class Client:
    """Has sent its request, and stays until it leaves."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[str] = asyncio.Queue()
        self._messages.put_nowait("http.request")

    def leave(self) -> None:
        self._messages.put_nowait("http.disconnect")

    async def receive(self) -> dict[str, Any]:
        return {"type": await self._messages.get()}


def test_the_value_and_the_error_of_the_work_are_passed_on() -> None:
    async def fail() -> None:
        raise ValueError("of the work")

    async def run() -> None:
        client = Client()
        assert await while_connected(client.receive, asyncio.sleep(0.01, "value")) == "value"
        with pytest.raises(ValueError, match="of the work"):
            await while_connected(client.receive, fail())

    asyncio.run(run())


def test_a_client_that_leaves_ends_the_work_and_nothing_else() -> None:
    async def run() -> None:
        client, ended = Client(), asyncio.Event()

        async def work() -> str:
            client.leave()
            try:
                async with asyncio.timeout(60):
                    await ended.wait()
            finally:
                ended.set()
            return "value"

        assert await while_connected(client.receive, work()) is None
        assert ended.is_set()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(run())


@pytest.mark.parametrize("leaves", [True, False])
def test_a_task_that_is_cancelled_from_outside_ends(leaves: bool) -> None:
    async def run() -> None:
        client, is_running = Client(), asyncio.Event()

        async def work() -> None:
            is_running.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(while_connected(client.receive, work()))
        await is_running.wait()
        if leaves:
            client.leave()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_a_watch_that_has_failed_takes_no_other_cancellation_for_its_own() -> None:
    async def run() -> None:
        has_failed = asyncio.Event()

        async def receive() -> dict[str, Any]:
            has_failed.set()
            raise OSError("of the connection")

        task = asyncio.create_task(while_connected(receive, asyncio.sleep(60)))
        await has_failed.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
