"""Which requests run, wait and are refused: bounds are kept, and keys are treated alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl.server.errors import ApiError
from eager_sgl.server.traffic.admission import Admission


class Crowd:
    """Requests to one admission, which end when they are told to.

    Attributes:
        started: names of the requests that have had their turn, in order.
        refused: names of those that were refused.
    """

    def __init__(self, max_requests: int = 99, max_sequences: int = 4) -> None:
        self.admission = Admission(max_requests, max_sequences)
        self.started: list[str] = []
        self.refused: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def arrive(self, name: str, key: int = 0, size: int = 1) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._run(name, key, size))
        await self.settle()

    async def _run(self, name: str, key: int, size: int) -> None:
        try:
            async with self.admission.admit(key, size):
                self.started.append(name)
                await self._ends[name].wait()
        except ApiError as error:
            self.refused += [name] * (error.status == 429)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.settle()

    async def leave(self, name: str) -> None:
        self._tasks[name].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_a_request_waits_until_its_sequences_fit() -> None:
    async def story() -> None:
        crowd = Crowd(max_sequences=4)
        await crowd.arrive("a", size=3)
        await crowd.arrive("b", size=2)
        await crowd.arrive("c", size=1)  # would fit, and does not pass the larger one
        assert crowd.started == ["a"]
        assert (crowd.admission.num_waiting, crowd.admission.num_sequences) == (2, 3)
        await crowd.end("a")
        assert crowd.started == ["a", "b", "c"]

    run(story())


def test_a_request_larger_than_the_bound_runs_alone() -> None:
    async def story() -> None:
        crowd = Crowd(max_sequences=4)
        await crowd.arrive("a")
        await crowd.arrive("large", size=100)
        assert crowd.started == ["a"]
        await crowd.end("a")
        await crowd.arrive("b")
        assert crowd.started == ["a", "large"]
        await crowd.end("large")
        assert crowd.started == ["a", "large", "b"]

    run(story())


def test_a_key_with_many_requests_does_not_delay_another_key() -> None:
    async def story() -> None:
        crowd = Crowd(max_requests=2000, max_sequences=4)
        for number in range(1000):
            await crowd.arrive(f"many {number}", key=1)
        await crowd.arrive("one", key=2)
        assert len(crowd.started) == 4
        await crowd.end("many 0")
        assert crowd.started[-1] == "one"

    run(story())


def test_keys_share_the_sequences_evenly() -> None:
    async def story() -> None:
        crowd = Crowd(max_sequences=6)
        for number in range(20):
            for key in range(3):
                await crowd.arrive(f"{key} {number}", key=key)
        for _ in range(40):
            await crowd.end(crowd.started[len(crowd.started) - 6])
            running = Counter(name[0] for name in crowd.started[-6:])
            assert len(running) == 3 or len(crowd.started) < 12 or len(crowd.started) == 60

    run(story())


def test_at_the_bound_the_key_with_most_requests_gives_way() -> None:
    async def story() -> None:
        crowd = Crowd(max_requests=5, max_sequences=1)
        for number in range(5):
            await crowd.arrive(f"many {number}", key=1)
        await crowd.arrive("more", key=1)
        assert crowd.refused == ["more"]
        await crowd.arrive("one", key=2)
        assert crowd.refused == ["more", "many 4"]
        await crowd.arrive("two", key=2)
        assert crowd.refused == ["more", "many 4", "many 3"]
        await crowd.arrive("three", key=2)  # now both have as many
        assert crowd.refused[3:] == ["three"]
        assert crowd.admission.num_requests == 5
        await crowd.end("many 0")
        assert crowd.started == ["many 0", "one"]

    run(story())


def test_running_requests_do_not_give_way() -> None:
    async def story() -> None:
        crowd = Crowd(max_requests=3, max_sequences=9)
        for number in range(3):
            await crowd.arrive(f"many {number}", key=1)
        await crowd.arrive("one", key=2)
        assert crowd.refused == ["one"]

    run(story())


def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    async def story() -> None:
        crowd = Crowd(max_requests=3, max_sequences=1)
        for name in "abc":
            await crowd.arrive(name)
        await crowd.leave("b")
        assert crowd.admission.num_requests == 2
        await crowd.end("a")
        assert crowd.started == ["a", "c"]

    run(story())


def test_a_refused_request_is_told_when_the_waiting_ones_should_have_had_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("eager_sgl.server.traffic.admission.monotonic", lambda: now)

    async def retry_after(crowd: Crowd) -> int:
        with pytest.raises(ApiError) as refused:
            async with crowd.admission.admit(0, 1):
                pass
        return int(refused.value.headers["Retry-After"])

    async def story() -> None:
        nonlocal now
        crowd = Crowd(max_requests=6, max_sequences=2)
        for name in "abcdef":
            await crowd.arrive(name)
        assert await retry_after(crowd) == 1  # none has ended
        now = 3.0
        await crowd.end("a")
        await crowd.arrive("g")
        assert await retry_after(crowd) == 8  # 3 s × 5 / 2
        now = 1000.0
        await crowd.end("b")
        await crowd.arrive("h")
        assert await retry_after(crowd) == 60

    run(story())


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "end", "leave"]),
        st.integers(0, 9),
        st.integers(0, 2),
        st.integers(1, 6),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(EVENTS)
def test_bounds_are_kept_and_nothing_is_left(events: Any) -> None:
    async def story() -> None:
        crowd, present = Crowd(max_requests=6, max_sequences=4), list[str]()
        for number, (kind, choice, key, size) in enumerate(events):
            present = [name for name in present if name not in crowd.refused]
            if kind == "arrive":
                present.append(f"{number}")
                await crowd.arrive(present[-1], key, size)
            elif present:
                name = present[choice % len(present)]
                if kind == "leave":
                    await crowd.leave(present.pop(present.index(name)))
                elif name in crowd.started:
                    await crowd.end(present.pop(present.index(name)))
            admission = crowd.admission
            assert admission.num_sequences <= 4
            assert admission.num_requests <= 6
            assert admission.num_waiting == 0 or admission.num_sequences > 0
        for name in present:
            await crowd.leave(name)
        admission = crowd.admission
        assert (admission.num_requests, admission.num_waiting, admission.num_sequences) == (0, 0, 0)

    run(story())


@pytest.mark.parametrize("num_ticks", range(4))
def test_a_client_that_leaves_at_its_turn_leaves_nothing(num_ticks: int) -> None:
    async def story() -> None:
        crowd = Crowd(max_sequences=1)
        await crowd.arrive("a")
        await crowd.arrive("b")
        crowd._ends["a"].set()
        for _ in range(num_ticks):
            await asyncio.sleep(0)
        await crowd.leave("b")
        assert crowd.admission.num_sequences == crowd.admission.num_requests == 0

    run(story())
