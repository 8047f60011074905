"""The requests that a tree grows by: prefills, chunks, failures."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from eager_sgl import EagerInit, FullParallel, PromptResult, SamplingConfig, SearchConfig, Vote
from eager_sgl.engine import loop
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import ServerUnreachableError
from eager_sgl.generate.executor import flights
from eager_sgl.generate.prompt import grow
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.runs import config_of, run
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.generate.prompts import FIELDS, first_tokens, in_loop, replicas_of

MODELS = range(12)


@pytest.mark.parametrize("model", MODELS)
def test_a_request_prefills_one_token_and_the_prompt_is_prefilled_once(model: int) -> None:
    server = ScriptedServer(mixed_distribution(model), prompt=(9, 9, 9))
    endpoint = endpoint_of(server)
    server.restart(seed=0)
    result = run_method(EagerInit(config_of()), endpoint, (9, 9, 9))
    assert result.counts.prefilled == len(result.prompt_ids) + result.counts.requests - 1


def test_a_saturated_prompt_takes_one_request_without_logprobs(scripted: ScriptedServer) -> None:
    result = run(scripted, max_sequences=1, chunk_tokens=2)
    assert len(result.sequences) == 1
    assert result.counts.requests == 1
    assert not any("return_logprob" in request for request in scripted.requests)


@pytest.mark.parametrize("name", ["parallel", "vote"])
def test_a_prompt_is_prefilled_before_its_samples_start_at_once(
    name: str, scripted: ScriptedServer
) -> None:
    """Each of them would compute the whole prompt."""
    vote = Vote(SearchConfig(**FIELDS), answers=first_tokens, shares=False)
    method = vote if name == "vote" else FullParallel(config_of().sampling, 4)
    endpoint = endpoint_of(scripted)
    scripted.restart(seed=0)
    run_method(method, endpoint)
    lengths = [body["sampling_params"]["max_new_tokens"] for body in scripted.requests]
    assert lengths[0] == 0
    assert all(lengths[1:])


class FailingForOneOfFour(ScriptedServer):
    """Refuses the last of four concurrent requests; the others wait until they are aborted."""

    def __init__(self) -> None:
        super().__init__(mixed_distribution(42))
        self.num_waiting, self.aborted = 0, asyncio.Event()

    async def post(self, path: str, build: Callable[[], Json], *options: Any, **more: Any) -> Any:
        body = build()
        if path == "/generate" and body["sampling_params"]["max_new_tokens"] == 9:
            self.num_waiting += 1
            if self.num_waiting == 4:
                raise ServerUnreachableError("gone")
            await self.aborted.wait()
        return await super().post(path, lambda: body, *options, **more)

    async def notify(self, path: str, body: Json) -> bool:
        self.aborted.set()
        return await super().notify(path, body)


def test_a_failure_reaches_the_caller_and_stops_the_others(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def tasks() -> set[str]:
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return {task.get_name() for task in others}

    server = FailingForOneOfFour()
    endpoint, before = endpoint_of(server), loop.run(tasks())
    gc.collect()  # what other tests have left may warn
    recwarn.clear()
    with pytest.raises(ServerUnreachableError, match="gone"):
        run_method(FullParallel(config_of().sampling, 4), endpoint)
    assert len(server.notified) == 3
    assert loop.run(tasks()) <= before
    assert not recwarn.list


class Late(DecodingServer):
    """Receives the second request for tokens after its abort, and runs it until another abort."""

    num_requests = 0

    async def post(self, path: str, build: Callable[[], Json], *options: Any, **more: Any) -> Any:
        body = build()
        params = body.get("sampling_params", {})
        is_of_a_sample = "stop_token_ids" in params and params["max_new_tokens"]
        self.num_requests += bool(is_of_a_sample)
        if is_of_a_sample and self.num_requests == 2:
            while not self.notified:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            self._stalls_after = 3
        return await super().post(path, lambda: body, *options, **more)


def test_an_abort_that_overtakes_its_request_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decided vote would wait for the whole sequence of a sample that it has left."""
    monkeypatch.setattr(flights, "SECONDS_BETWEEN_ABORTS", 0.02)
    server = Late()
    vote = Vote(
        SearchConfig(**FIELDS),
        answers=first_tokens,
        rule=lambda votes: len(votes) > 0,
        shares=False,
        ahead=2,
    )

    async def generate() -> PromptResult:
        async with asyncio.timeout(20):
            return await grow(await replicas_of(server), (9,), vote)

    result = in_loop(generate)
    assert (server.num_requests, len(result.sequences)) == (2, 1)
    assert len(server.aborted) == 1
    assert result.counts.generated == server.num_decoded


def test_chunks_grow_while_nothing_branches_and_are_short_after_a_branch() -> None:
    server = ScriptedServer(lambda path: (0.0001, 0.0001, 0.9996, 0.0001, 0.0001))
    sampling = SamplingConfig(max_new_tokens=60, temperature=0)
    run(server, sampling=sampling, threshold=1.6, chunk_tokens=2)
    sizes = [r["sampling_params"]["max_new_tokens"] for r in server.requests]
    assert sizes == [2, 2, 4, 8, 16, 16, 12]
