"""Timeouts, token limits, cancellation and errors: partial results whose counts are true."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from eager_sgl import PromptResult
from eager_sgl.core import Stopped
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import PromptTimeoutError, ServerError, ServerUnreachableError
from eager_sgl.generate.executor.builder import MIN_OBSERVED_PART
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.results import partial_of
from tests.fakes import decoding
from tests.fakes.decoding import DecodingServer
from tests.generate.prompts import METHODS, in_loop, replicas_of

SEEDS = range(12)


def require_partial(result: PromptResult | None, server: DecodingServer, why: Stopped) -> None:
    """What exists is whole, counted truly, and nothing runs any more."""
    assert result is not None
    assert result.stopped == why
    assert server.running == set()
    counts, paths = result.counts, [s.token_ids for s in result.sequences]
    assert counts.generated == server.num_decoded
    assert counts.naive == sum(map(len, paths))
    prefixes = {path[:n] for path in paths for n in range(1, len(path) + 1)}
    assert counts.unique == (len(prefixes) if result.branch_points else counts.naive)
    assert counts.discarded >= 0
    for sequence in result.sequences:
        assert sequence.text == " ".join(map(str, sequence.token_ids))
        assert sequence.finish_reason == ("length" if len(sequence.token_ids) == 40 else "abort")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that decode a sequence in 0.4 s or more."""
    monkeypatch.setattr(decoding, "SECONDS_PER_STEP", 0.01)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("name", METHODS)
def test_a_timeout_gives_a_partial_result(name: str) -> None:
    server = DecodingServer(allows_gate="gate" in name)

    async def generate() -> PromptResult:
        replicas = await replicas_of(server)
        return await grow(replicas, (9,), METHODS[name], limits=PromptLimits(timeout=0.25))

    result = in_loop(generate)
    require_partial(result, server, "timeout")
    assert any(sequence.finish_reason == "abort" for sequence in result.sequences)
    assert server.aborted


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("max_tokens", [1, 17, 60])
def test_max_tokens_gives_a_partial_result(name: str, max_tokens: int) -> None:
    """It is exceeded by at most a part, and a step until the abort, of every running request."""
    server, method = DecodingServer(allows_gate="gate" in name), METHODS[name]
    limits = PromptLimits(max_tokens=max_tokens)

    async def generate() -> PromptResult:
        return await grow(await replicas_of(server), (9,), method, limits=limits)

    result = in_loop(generate)
    require_partial(result, server, "max_tokens")
    interval = limits.interval_of(method)
    assert interval is not None
    if name == "chunk":
        interval = 6 * 8
    elif method.top_k and "gate" not in name:
        interval = max(interval, MIN_OBSERVED_PART)
    steps_to_abort = 10
    most = max_tokens + method.max_sequences * (interval + steps_to_abort)
    assert max_tokens <= result.counts.generated <= most


def test_limits_that_are_not_reached_change_nothing() -> None:
    async def generate(limits: PromptLimits) -> PromptResult:
        return await grow(
            await replicas_of(DecodingServer()), (9,), METHODS["chunk"], limits=limits
        )

    whole = in_loop(lambda: generate(PromptLimits()))
    limited = in_loop(
        lambda: generate(PromptLimits(timeout=30, max_tokens=10_000, stream_interval=3))
    )
    assert limited.stopped is None
    assert [s.finish_reason for s in limited.sequences] == ["length"] * 5
    assert whole.stopped is None


async def decoded(server: DecodingServer, number: int) -> None:
    """Wait until a number of tokens are decoded, and a request runs."""
    while server.num_decoded < number or not server.running:
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cancelled_task_has_a_partial_result(name: str, seed: int) -> None:
    server = DecodingServer(seed, allows_gate="gate" in name)
    number = random.Random(seed).randint(1, 40)
    limits = PromptLimits(stream_interval=random.Random(seed).choice([None, 1, 5]))

    async def cancel() -> PromptResult | None:
        replicas = await replicas_of(server)
        task = asyncio.create_task(grow(replicas, (9,), METHODS[name], limits=limits))
        await decoded(server, number)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return partial_of(caught.value)

    require_partial(in_loop(cancel), server, "cancelled")


async def in_scope(work: Coroutine[Any, Any, PromptResult]) -> None:
    async with asyncio.timeout(0.25):
        await work


async def waited_for(work: Coroutine[Any, Any, PromptResult]) -> None:
    await asyncio.wait_for(work, 0.25)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("limited", [in_scope, waited_for])
def test_a_timeout_of_the_callers_has_a_partial_result(limited: Any) -> None:
    server = DecodingServer()

    async def generate() -> PromptResult | None:
        work = grow(await replicas_of(server), (9,), METHODS["chunk"])
        with pytest.raises(TimeoutError) as caught:
            await limited(work)
        return partial_of(caught.value)

    require_partial(in_loop(generate), server, "cancelled")


class Deaf(DecodingServer):
    """Ignores aborts, and answers no request for tokens after one."""

    async def notify(self, path: str, body: Json) -> bool:
        self.notified.append((path, body))
        return True

    async def post(self, path: str, build: Any, *options: Any, **more: Any) -> Any:
        body = build()
        answer = await super().post(path, lambda: body, *options, **more)
        if self.notified and "stop_token_ids" in body.get("sampling_params", ()):
            await asyncio.Event().wait()
        return answer


@pytest.mark.parametrize("name", METHODS)
def test_a_second_cancellation_does_not_wait_for_the_server(name: str) -> None:
    server = Deaf(allows_gate="gate" in name)

    async def cancel_twice() -> None:
        task = asyncio.create_task(grow(await replicas_of(server), (9,), METHODS[name]))
        await decoded(server, 3)
        task.cancel()
        while not server.notified:
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        assert done
        assert task.cancelled()
        while server.running:
            await asyncio.sleep(0)

    in_loop(cancel_twice)


class Silent(DecodingServer):
    """Does not answer requests to tokenise a text."""

    is_silent = False

    async def post(self, path: str, *arguments: Any, **options: Any) -> Any:
        if self.is_silent and path == "/tokenize":
            await asyncio.sleep(60)
        return await super().post(path, *arguments, **options)


def test_the_time_of_a_prompt_includes_its_tokenising() -> None:
    server = Silent()

    async def generate() -> None:
        replicas = await replicas_of(server)
        server.is_silent = True
        with pytest.raises(PromptTimeoutError, match="timeout of 0.05 s"):
            await grow(replicas, "a text", METHODS["chunk"], limits=PromptLimits(timeout=0.05))

    in_loop(generate)


class Breaking(DecodingServer):
    """Fails a request for tokens after a number of them were asked."""

    def __init__(self, num_good: int, **options: Any) -> None:
        super().__init__(**options)
        self.num_left = num_good

    async def post(self, path: str, build: Any, *options: Any, **more: Any) -> Any:
        body = build()
        if "stop_token_ids" in body.get("sampling_params", ()):
            self.num_left -= 1
            if self.num_left < 0:
                await asyncio.sleep(0.02)
                raise ServerUnreachableError("gone")
        return await super().post(path, lambda: body, *options, **more)


@pytest.mark.parametrize("name", ["parallel", "chunk", "best_first", "trie_parallel"])
def test_an_error_of_the_server_has_a_partial_result(name: str) -> None:
    async def generate() -> tuple[PromptResult | None, DecodingServer]:
        server = Breaking(3)
        replicas = await replicas_of(server)
        with pytest.raises(ServerError, match="gone") as caught:
            await grow(replicas, (9,), METHODS[name])
        return partial_of(caught.value), server

    result, server = in_loop(generate)
    require_partial(result, server, "error")
    assert result is not None
    assert result.sequences


def test_a_dead_server_has_a_partial_result_without_texts() -> None:
    class Dying(Breaking):
        async def post(self, path: str, build: Any, *options: Any, **more: Any) -> Any:
            if path == "/detokenize":
                raise ServerUnreachableError("gone")
            return await super().post(path, build, *options, **more)

    async def generate() -> PromptResult | None:
        with pytest.raises(ServerError, match="gone") as caught:
            await grow(await replicas_of(Dying(3)), (9,), METHODS["chunk"])
        return partial_of(caught.value)

    result = in_loop(generate)
    assert result is not None
    assert result.counts.generated > 0
    assert [s.text for s in result.sequences] == [""] * len(result.sequences)


class SlowToAnswer(DecodingServer):
    """Takes longer than others to say whether a token ends sequences."""

    async def post(self, path: str, build: Any, *options: Any, **more: Any) -> Any:
        body = build()
        if "logit_bias" in body.get("sampling_params", ()) and self.num_decoded:
            await asyncio.sleep(0.7)
        return await super().post(path, lambda: body, *options, **more)


def test_an_answer_that_is_being_read_is_not_lost() -> None:
    """A cancellation interrupts the question about its last token."""
    server = SlowToAnswer()

    async def cancel() -> PromptResult | None:
        task = asyncio.create_task(grow(await replicas_of(server), (9,), METHODS["parallel"]))
        await decoded(server, 50)
        task.cancel()
        started = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert asyncio.get_running_loop().time() - started < 6
        await asyncio.sleep(0.8)  # for the question, which others may wait for
        return partial_of(caught.value)

    require_partial(in_loop(cancel), server, "cancelled")
