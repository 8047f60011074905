"""The monitors on a scripted server: the gate against chunks, and servers without a gate."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eager_sgl import BranchPoint, PromptResult, SamplingConfig
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import ServerUnsuitableError
from eager_sgl.plugin.blocks import pack_steps
from eager_sgl.plugin.vocabulary import KEY
from tests.fakes.endpoint import endpoint_of
from tests.fakes.runs import gated, run
from tests.fakes.scripted import CLOSE, ScriptedServer, mixed_distribution

MODELS = range(12)


@pytest.mark.parametrize("model", MODELS)
def test_the_gate_requests_no_logprobs_and_every_segment_once(model: int) -> None:
    server = gated(model)
    result = run(server, monitor="auto")
    assert result.monitor == "gate"
    generating = [r for r in server.requests if "logit_bias" not in r["sampling_params"]]
    assert not any(request.get("return_logprob") for request in generating)
    assert result.counts.generated == sum(len(r["output_ids"]) for r in generating)
    assert len(generating) == result.counts.requests
    assert len({tuple(request["input_ids"]) for request in generating}) == len(generating)


@pytest.mark.parametrize("model", MODELS)
def test_the_gate_reports_nothing_after_the_end_of_the_reasoning(model: int) -> None:
    server = gated(model)
    result = run(server, threshold=0.8, max_sequences=8, monitor="gate")
    for sequence in result.sequences:
        if sequence.branch is not None:
            assert CLOSE not in sequence.token_ids[: sequence.branch.position]
        if CLOSE in sequence.token_ids:
            answer = sequence.entropies[sequence.token_ids.index(CLOSE) + 1 :]
            assert np.isnan(answer).all()
    for request in server.requests:
        if "custom_params" in request["sampling_params"]:
            assert CLOSE not in request["input_ids"][1:]


def facts(point: BranchPoint) -> tuple[Any, ...]:
    return point.position, point.token_ids, point.sampled, pytest.approx(point.entropy, abs=1e-5)


def deferred_facts(result: PromptResult) -> list[tuple[Any, ...]]:
    by_position = sorted(result.deferred, key=lambda d: (d.sequence, d.point.position))
    return [(deferred.sequence, facts(deferred.point)) for deferred in by_position]


@pytest.mark.parametrize("deferred_threshold", [None, 0.4])
@pytest.mark.parametrize("model", MODELS)
def test_gate_and_chunks_find_the_same_steps(model: int, deferred_threshold: float | None) -> None:
    """At τ = 0, where both sample the same tokens."""
    gate, chunk = (
        run(
            gated(model),
            monitor=monitor,
            max_sequences=3,
            deferred_threshold=deferred_threshold,
            sampling=SamplingConfig(temperature=0.0, max_new_tokens=9),
        )
        for monitor in ("gate", "chunk")
    )
    for ours, theirs in zip(gate.sequences, chunk.sequences, strict=True):
        assert (ours.token_ids, ours.parent) == (theirs.token_ids, theirs.parent)
        for entropy, expected in zip(ours.entropies, theirs.entropies, strict=True):
            assert math.isnan(entropy) or entropy == pytest.approx(expected, abs=1e-5)
    assert list(map(facts, chunk.branch_points)) == list(map(facts, gate.branch_points))
    assert deferred_facts(chunk) == deferred_facts(gate)
    assert deferred_threshold or not gate.deferred


def test_a_saturated_prompt_has_no_gate() -> None:
    server = gated()
    assert len(run(server, monitor="gate", max_sequences=1).sequences) == 1
    assert not any("custom_params" in r["sampling_params"] for r in server.requests)


def test_the_gate_needs_a_server_that_has_it(scripted: ScriptedServer) -> None:
    with pytest.raises(ServerUnsuitableError, match="it has no plugin"):
        run(scripted, monitor="gate")
    assert run(scripted, monitor="auto").monitor == "chunk"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"speculative_algorithm": "EAGLE"}, "speculative"),
        ({"incremental_streaming_output": True}, "incremental"),
    ],
)
def test_server_options_may_rule_the_gate_out(
    options: Json, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = gated()
    answer = server.answer

    def with_options(path: str, body: Json | None = None) -> Json:
        return answer(path, body) | ({} if body else options)

    monkeypatch.setattr(server, "answer", with_options)
    with pytest.raises(ServerUnsuitableError, match=reason):
        run(server, monitor="gate")


@pytest.mark.parametrize("model", [0, 7])
def test_a_branch_names_the_running_request_that_it_leaves(model: int) -> None:
    """So that the server puts the tokens of that request into its radix tree first."""
    server = gated(model)
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=60)
    config = {"threshold": 0.8, "max_sequences": 8, "reasoning_end": None, "sampling": sampling}
    run(server, monitor="gate", **config)
    sent = {body["rid"]: body for body in server.requests if "input_ids" in body}
    asked = [(b, b["sampling_params"].get("custom_params", {}).get(KEY, {})) for b in sent.values()]
    named = [(body["input_ids"], gate["parent"]) for body, gate in asked if "parent" in gate]
    assert named
    for path, parent in named:
        before = sent[parent]["input_ids"]
        assert len(path) > len(before)
        assert path[: len(before)] == before


def test_the_plugin_works_behind_a_router_and_the_pickle_does_not() -> None:
    server = ScriptedServer(mixed_distribution(42), allows_gate=True, allows_pickle=True)
    server.has_router = True
    assert endpoint_of(server, gate="pickle").client.profile.gate == "plugin"
    server.allows_gate = False
    profile = endpoint_of(server, gate="pickle").client.profile
    assert profile.gate is None
    assert "drops the parameters" in str(profile.no_gate)


def without_reports(answer: Json) -> None:
    answer["meta_info"].pop(KEY, None)


def off_by_one(answer: Json) -> None:
    if blocks := answer["meta_info"].get(KEY):
        ids = np.zeros((1, 2), np.int32)
        blocks[0] = pack_steps([1], ids, ids.astype(np.float32))


def reports_at_the_end(answer: Json) -> None:
    if answer["meta_info"]["finish_reason"] is None:
        without_reports(answer)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (without_reports, "has no plugin"),
        (off_by_one, "does not report"),
        (reports_at_the_end, "does not report"),
    ],
)
def test_a_gate_whose_reports_are_wrong_is_not_used(
    fault: Callable[[Json], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = gated()
    post = server.post

    def faulty(path: str, build: Any, decode: Any, *options: Any, **more: Any) -> Any:
        def spoil(answer: Json) -> Any:
            answer = copy.deepcopy(answer)
            if path == "/generate":
                fault(answer)
            return decode(answer)

        return post(path, build, spoil, *options, **more)

    monkeypatch.setattr(server, "post", faulty)
    with pytest.raises(ServerUnsuitableError, match=reason):
        run(server, monitor="gate")


@pytest.mark.parametrize("model", MODELS)
def test_a_request_gets_no_more_reports_than_there_are_slots(model: int) -> None:
    server = gated(model)
    run(server, monitor="gate", max_sequences=3)
    max_reports = [
        request["sampling_params"]["custom_params"][KEY]["max_reports"]
        for request in server.requests
        if "custom_params" in request["sampling_params"]
    ]
    assert max_reports[0] == 2
    assert all(1 <= number <= 2 for number in max_reports)


def test_entropies_are_the_same_from_a_server_with_raw_logprobs(scripted: ScriptedServer) -> None:
    tempered = run(scripted)
    scripted.logprobs_are_raw = True
    raw = run(scripted)
    assert [p.position for p in raw.branch_points] == [p.position for p in tempered.branch_points]
    assert [p.entropy for p in raw.branch_points] == pytest.approx(
        [p.entropy for p in tempered.branch_points], abs=1e-5
    )
