"""The requests that a tree grows by: prefills, chunks, failures."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from eager_sgl import EagerInit, FullParallel, SamplingConfig
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import ServerUnreachableError
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.runs import config_of, run
from tests.fakes.scripted import ScriptedServer, mixed_distribution

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


def test_a_failure_reaches_the_caller_and_stops_the_others(
    scripted: ScriptedServer, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, answer = endpoint_of(scripted), scripted.post
    before, blocked = set(threading.enumerate()), threading.Barrier(4)
    released = threading.Event()

    def fail_for_one_of_four(path: str, build: Any, progress: Any = None) -> Any:
        if path == "/generate" and build()["sampling_params"]["max_new_tokens"] > 0:
            if blocked.wait() == 0:
                raise ServerUnreachableError("gone")
            released.wait(10)
        return answer(path, build, progress)

    def notify(path: str, body: Json) -> None:
        scripted.notified.append((path, body))
        released.set()

    monkeypatch.setattr(scripted, "post", fail_for_one_of_four)
    monkeypatch.setattr(scripted, "notify", notify)
    with pytest.raises(ServerUnreachableError, match="gone"):
        run_method(FullParallel(config_of().sampling, 4), endpoint, (9,))
    assert 1 <= len(scripted.notified) <= 4
    for thread in set(threading.enumerate()) - before:  # of the scripted server
        thread.join(10)
    assert set(threading.enumerate()) == before
    assert not recwarn.list


def test_chunks_grow_while_nothing_branches_and_are_short_after_a_branch() -> None:
    server = ScriptedServer(lambda path: (0.0001, 0.0001, 0.9996, 0.0001, 0.0001))
    sampling = SamplingConfig(max_new_tokens=60, temperature=0)
    run(server, sampling=sampling, threshold=1.6, chunk_tokens=2)
    sizes = [r["sampling_params"]["max_new_tokens"] for r in server.requests]
    assert sizes == [2, 2, 4, 8, 16, 16, 12]
