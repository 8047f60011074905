"""Several servers of one client: balance, failures, recovery, and what they must have in common."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from eager_sgl.engine import limits
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.replicas import Lease, Replicas
from eager_sgl.engine.replicas.weights import MAX_DIFFERENCE
from eager_sgl.errors import (
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
    ServerUnsuitableError,
)
from tests.fakes.replicas import Replica, connected, servers
from tests.fakes.waiting import until

FAILED = ServerUnreachableError("a request failed")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PING_PAUSE", 0.001)
    monkeypatch.setattr(limits, "ADMISSION_PAUSE", 0.001)


def url_of(lease: Lease) -> str:
    return lease.client.transport.url


# Balance


@pytest.mark.parametrize("number", [2, 3, 4])
def test_equal_trees_are_spread_evenly(number: int) -> None:
    async def scenario() -> None:
        fakes = servers(number)
        replicas = await connected(*fakes)
        counts = Counter({fake.url: 0 for fake in fakes})
        for _ in range(5 * number + 1):
            counts[url_of(replicas.lease(1000))] += 1
            assert max(counts.values()) - min(counts.values()) <= 1
        await replicas.aclose()

    asyncio.run(scenario())


class Walk:
    """Random events of trees and servers, beside a second account of the loads."""

    def __init__(self, seed: int, fakes: list[Replica], replicas: Replicas) -> None:
        self.random, self.fakes, self.replicas = Random(seed), fakes, replicas
        self.leases: list[Lease] = []
        self.expected: dict[Lease, int] = {}
        self.outstanding: dict[Lease, int] = {}

    def require_least_loaded(self, chosen: Lease) -> None:
        loads = {fake.url: 0 for fake in self.fakes if fake.is_up}
        for lease in self.leases:
            if lease is not chosen and url_of(lease) in loads:
                loads[url_of(lease)] += self.outstanding[lease] or self.expected[lease]
        assert url_of(chosen) == min(loads, key=lambda url: loads[url])

    async def open(self) -> None:
        expected = self.random.randint(1, 100)
        lease = self.replicas.lease(expected)
        self.expected[lease], self.outstanding[lease] = expected, 0
        self.leases.append(lease)
        self.require_least_loaded(lease)

    async def close(self) -> None:
        if self.leases:
            self.leases.pop(self.random.randrange(len(self.leases))).close()

    async def ask(self) -> None:
        if self.leases:
            lease, tokens = self.random.choice(self.leases), self.random.randint(0, 200)
            lease.add(tokens)
            self.outstanding[lease] += tokens

    async def receive(self) -> None:
        if self.leases:
            lease = self.random.choice(self.leases)
            tokens = int(self.random.choice([1, self.random.random()]) * self.outstanding[lease])
            lease.remove(tokens)
            self.outstanding[lease] -= tokens
            assert lease.outstanding == self.outstanding[lease] >= 0

    async def fail(self) -> None:
        up = [fake for fake in self.fakes if fake.is_up]
        if len(up) > 1:
            self.random.choice(up).is_up = False
            await self.settle()
            for lease in self.leases:
                if url_of(lease) in self.replicas.down:
                    await lease.move()
                    self.require_least_loaded(lease)

    async def recover(self) -> None:
        self.random.choice(self.fakes).is_up = True
        await self.settle()

    async def settle(self) -> None:
        down = {fake.url for fake in self.fakes if not fake.is_up}
        await until(lambda: set(self.replicas.down) == down)

    async def step(self) -> None:
        events = (self.open, self.open, self.close, self.ask, self.receive)
        await self.random.choice((*events, *events, self.fail, self.recover))()


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_lives_on_the_least_loaded_server_that_is_up(seed: int) -> None:
    async def scenario() -> None:
        fakes = servers(3)
        walk = Walk(seed, fakes, await connected(*fakes))
        for _ in range(150):
            await walk.step()
        for fake in fakes:
            fake.is_up = True
        await walk.settle()
        for lease in walk.leases:
            lease.remove(lease.outstanding)
            lease.close()
        # Without trees all loads are 0 again: three new ones are spread over three servers.
        new = [walk.replicas.lease(1) for _ in fakes]
        assert [url_of(lease) for lease in new] == [fake.url for fake in fakes]
        await walk.replicas.aclose()

    asyncio.run(scenario())


def test_more_tokens_than_were_asked_for_do_not_arrive() -> None:
    async def scenario() -> None:
        lease = (await connected(*servers(1))).lease(10)
        lease.add(3)
        with pytest.raises(AssertionError, match="4 of 3 tokens"):
            lease.remove(4)

    asyncio.run(scenario())


def test_a_tree_expects_tokens() -> None:
    async def scenario() -> None:
        replicas = await connected(*servers(1))
        with pytest.raises(ValueError, match="expected_tokens is 0"):
            replicas.lease(0)

    asyncio.run(scenario())


# Failures


def test_trees_of_a_server_that_fails_are_notified_and_continue_on_another() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        notified: list[int] = []
        first, second = (replicas.lease(10, lambda i=i: notified.append(i)) for i in range(2))  # type: ignore[misc]
        assert [url_of(first), url_of(second)] == [fake.url for fake in fakes]
        fakes[0].is_up = False
        await until(lambda: bool(replicas.down))
        assert notified == [0]
        await first.move()
        assert url_of(first) == fakes[1].url
        assert str(replicas.down[fakes[0].url]) == "it does not answer"
        await replicas.aclose()

    asyncio.run(scenario())


def test_a_server_is_down_once_a_request_reports_that_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PING_PAUSE", 60)

    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        notified: list[str] = []
        reporting = replicas.lease(10)
        replicas.lease(10)
        replicas.lease(10, lambda: notified.append("the other tree"))
        assert not reporting.report(RequestRejectedError("too long"))
        assert not reporting.report(ServerError("HTTP 500"))
        assert not replicas.down
        assert reporting.report(FAILED)
        assert replicas.down == {fakes[0].url: FAILED}
        assert notified == ["the other tree"]
        await replicas.aclose()

    asyncio.run(scenario())


def test_requests_that_were_left_on_a_server_are_aborted_before_it_is_taken_in() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        lease = replicas.lease(10)
        fakes[0].is_up = False
        await until(lambda: bool(replicas.down))
        await lease.move(running=["a", "b"])
        num_requests = len(fakes[0].requests)
        fakes[0].is_up = True
        await until(lambda: bool(fakes[0].notified))
        assert replicas.down, "it was taken in before the aborts"
        await until(lambda: not replicas.down)
        assert {path for path, _ in fakes[0].notified} == {"/abort_request"}
        assert sorted(body["rid"] for _, body in fakes[0].notified) == ["a", "b"]
        assert fakes[1].notified == []
        assert len(fakes[0].requests) > num_requests, "it was not tried whether it generates"
        await replicas.aclose()

    asyncio.run(scenario())


class Losing(Replica):
    """Two notices do not arrive."""

    num_lost = 0

    async def notify(self, path: str, body: Json) -> bool:
        if self.is_up and self.num_lost < 2:
            self.num_lost += 1
            return False
        return await super().notify(path, body)


def test_an_abort_that_does_not_arrive_is_sent_again() -> None:
    async def scenario() -> None:
        fakes = [Losing("http://losing"), *servers(1)]
        replicas = await connected(*fakes)
        lease = replicas.lease(10)
        fakes[0].is_up = False
        await until(lambda: bool(replicas.down))
        await lease.move(running=["a", "b"])
        fakes[0].is_up = True
        await until(lambda: len(fakes[0].notified) >= 2)
        assert sorted(body["rid"] for _, body in fakes[0].notified) == ["a", "b"]
        await replicas.aclose()

    asyncio.run(scenario())


def test_a_tree_waits_for_a_server_if_all_are_down() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        for fake in fakes:
            fake.is_up = False
        await until(lambda: len(replicas.down) == 2)
        notified = asyncio.Event()
        lease = replicas.lease(10, notified.set)
        await asyncio.wait_for(notified.wait(), 20)
        moving = asyncio.create_task(lease.move())
        await asyncio.sleep(0.01)
        assert not moving.done()
        fakes[1].is_up = True
        await asyncio.wait_for(moving, 20)
        assert url_of(lease) == fakes[1].url
        await replicas.aclose()

    asyncio.run(scenario())


def test_an_outage_of_all_servers_is_an_error_that_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "OUTAGE_TIMEOUT", 0.02)

    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        lease = replicas.lease(10)
        for fake in fakes:
            fake.is_up = False
        await until(lambda: len(replicas.down) == 2)
        with pytest.raises(ServerUnreachableError, match="replica-0.*replica-1"):
            await lease.move()
        lease.close()
        await replicas.aclose()

    asyncio.run(scenario())


def test_with_one_server_errors_of_requests_are_raised_as_they_are() -> None:
    async def scenario() -> None:
        fake = servers(1)[0]
        await TokenClient.connect(fake)
        num_requests = len(fake.requests)
        replicas = await connected(fake)
        assert len(fake.requests) == 2 * num_requests, "one server needs no comparison"

        async def fail(client: TokenClient) -> None:
            raise FAILED

        with pytest.raises(ServerUnreachableError) as raised:
            await replicas.call(fail)
        assert raised.value is FAILED
        assert not replicas.lease(10).report(FAILED)
        assert replicas.down == {}
        assert len(asyncio.all_tasks()) == 1, "one server needs no monitor"

    asyncio.run(scenario())


# Facts of the model


def test_a_fact_is_asked_of_another_server_if_the_first_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PING_PAUSE", 60)

    async def scenario() -> None:
        fakes = servers(3)
        replicas = await connected(*fakes)
        asked: list[str] = []

        async def url(client: TokenClient) -> str:
            asked.append(client.transport.url)
            if len(asked) < 3:
                raise ServerUnreachableError("reset")
            return client.transport.url

        assert await replicas.call(url) == fakes[2].url
        assert asked == [fake.url for fake in fakes]
        assert url_of(replicas.lease(10)) == fakes[2].url
        await replicas.aclose()

    asyncio.run(scenario())


def test_a_fact_is_not_awaited_from_a_server_that_hangs() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)

        async def url(client: TokenClient) -> str:
            if client.transport is fakes[0]:
                fakes[0].is_up = False
                await asyncio.Event().wait()
            return client.transport.url

        assert await asyncio.wait_for(replicas.call(url), 20) == fakes[1].url
        await replicas.aclose()

    asyncio.run(scenario())


def test_a_refusal_is_not_tried_elsewhere() -> None:
    async def scenario() -> None:
        replicas = await connected(*servers(2))
        asked: list[TokenClient] = []

        async def refuse(client: TokenClient) -> None:
            asked.append(client)
            raise RequestRejectedError("too long")

        with pytest.raises(RequestRejectedError):
            await replicas.call(refuse)
        assert len(asked) == 1
        assert not replicas.down
        await replicas.aclose()

    asyncio.run(scenario())


# Connecting


def test_a_server_that_does_not_answer_at_connect_is_taken_in_later() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        fakes[0].is_up = False
        replicas = await connected(*fakes)
        assert set(replicas.down) == {fakes[0].url}
        leases = [replicas.lease(10) for _ in range(2)]
        assert {url_of(lease) for lease in leases} == {fakes[1].url}
        fakes[0].is_up = True
        await until(lambda: not replicas.down)
        assert url_of(replicas.lease(10)) == fakes[0].url
        await replicas.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [1, 2])
def test_one_server_must_answer_at_connect(number: int) -> None:
    fakes = servers(number)
    for fake in fakes:
        fake.is_up = False
    with pytest.raises(ServerUnreachableError, match="replica-0" if number == 1 else "0.*-1"):
        asyncio.run(connected(*fakes))


def test_an_unsuitable_server_is_refused() -> None:
    with pytest.raises(ServerUnsuitableError, match="replica-0 served 0 of .* radix cache"):
        asyncio.run(connected(*servers(1, radix_cache=False), Replica("http://other")))


@pytest.mark.parametrize("urls", [[], ["http://a", "http://b", "http://a"]])
def test_servers_are_distinct(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="http://a is named 2 times" if urls else "no server"):
        asyncio.run(connected(*map(Replica, urls)))


OTHER_WEIGHTS = pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("distribution", Replica("", model=43).distribution, r"differ by \d.* nats on average"),
        ("shift", 1.1 * MAX_DIFFERENCE, r"differ by 0\.11 nats"),
        ("shift", float("nan"), "differ by nan nats"),
        ("version", "step-2", "weight_version is 'step-2', not 'default'"),
        ("vocabulary_size", 900, "vocabulary has 900 tokens, not 1000"),
    ],
)


@OTHER_WEIGHTS
def test_other_weights_are_refused(field: str, value: object, message: str) -> None:
    other = Replica("http://other")
    setattr(other, field, value)
    with pytest.raises(
        ServerUnsuitableError,
        match=f"http://other serves other weights than http://replica-0: .*{message}",
    ):
        asyncio.run(connected(*servers(2), other))


def test_another_rounding_is_no_other_model() -> None:
    async def scenario() -> None:
        fakes = servers(2)
        fakes[1].shift = 0.9 * MAX_DIFFERENCE
        replicas = await connected(*fakes)
        assert not replicas.down
        await replicas.aclose()

    asyncio.run(scenario())


@OTHER_WEIGHTS
def test_a_server_that_returns_with_other_weights_stays_down(
    field: str, value: object, message: str
) -> None:
    async def scenario() -> None:
        fakes = servers(2)
        replicas = await connected(*fakes)
        url, before = fakes[1].url, getattr(fakes[1], field)
        fakes[1].is_up = False
        await until(lambda: bool(replicas.down))
        setattr(fakes[1], field, value)
        fakes[1].is_up = True
        await until(lambda: "serves other weights" in str(replicas.down[url]))
        assert isinstance(replicas.down[url], ServerUnsuitableError)
        assert {url_of(replicas.lease(10)) for _ in range(2)} == {fakes[0].url}
        setattr(fakes[1], field, before)
        await until(lambda: not replicas.down)
        await replicas.aclose()

    asyncio.run(scenario())


def test_the_smallest_context_counts_and_a_missing_gate_is_missing_everywhere() -> None:
    async def scenario() -> None:
        fakes = [*servers(2, allows_gate=True), Replica("http://without")]
        fakes[1].context_length = 400
        replicas = await connected(*fakes)
        assert replicas.profile.context_length == 394
        assert str(replicas.profile.no_gate).startswith("its replica http://without has none (")
        first, second = replicas.lease(10).client, replicas.lease(10).client
        assert first.profile == second.profile == replicas.profile
        await replicas.aclose()

    asyncio.run(scenario())


def test_logprobs_of_two_kinds_are_refused() -> None:
    """A tree that moves would take logprobs at temperature 1 for those at the sampling's."""
    fakes = servers(2)
    fakes[1].logprobs_are_raw = True
    with pytest.raises(
        ServerUnsuitableError, match="replica-1 returns raw logprobs, the other replicas tempered"
    ):
        asyncio.run(connected(*fakes))


@pytest.mark.parametrize(
    ("field", "less", "message"),
    [
        ("context_length", 999, "a context of 993"),
        ("allows_gate", False, "no entropy gate"),
        ("logprobs_are_raw", True, "returns raw logprobs"),
    ],
)
def test_a_server_that_returns_with_less_stays_down(field: str, less: object, message: str) -> None:
    async def scenario() -> None:
        fakes = servers(2, allows_gate=True)
        replicas = await connected(*fakes)
        assert replicas.profile.no_gate is None
        fakes[0].is_up = False
        await until(lambda: bool(replicas.down))
        before = getattr(fakes[0], field)
        setattr(fakes[0], field, less)
        fakes[0].is_up = True
        await until(lambda: message in str(replicas.down[fakes[0].url]))
        setattr(fakes[0], field, before)
        await until(lambda: not replicas.down)
        await replicas.aclose()

    asyncio.run(scenario())


def test_replicas_with_gates_of_two_forms_have_none() -> None:
    async def scenario() -> None:
        fakes = [*servers(1, allows_gate=True), Replica("http://pickle", allows_pickle=True)]
        replicas = await Replicas.connect(fakes, gate="pickle")
        assert replicas.profile.gate is None
        assert not replicas.profile.gate_honours_seed
        assert "some of its replicas have the plugin" in str(replicas.profile.no_gate)
        assert {replicas.lease(10).client.profile.gate for _ in range(2)} == {None}
        await replicas.aclose()

    asyncio.run(scenario())


def test_closing_ends_the_monitor() -> None:
    async def scenario() -> None:
        replicas = await connected(*servers(2))
        await replicas.aclose()
        await replicas.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())
