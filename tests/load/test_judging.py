"""The load test finds answers that are not as they must be."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from tests.load.requests import KINDS, Asked, events_fault, random_request, whole_fault
from tests.load.sending import Tally

STREAMED = Asked("relay, streamed", {"stream": True})
BILL: dict[str, Any] = {"usage": {"completion_tokens": 9}, "eager": {}}


def answer(*choices: tuple[int, str | None], **fields: Any) -> dict[str, Any]:
    return BILL | {"choices": [{"index": i, "finish_reason": r} for i, r in choices]} | fields


def stream(*events: dict[str, Any], end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + end


def test_whole_answers() -> None:
    asked = Asked("drop-in", {"n": 2})
    stopped = {"eager": {"stopped": "timeout"}}
    assert whole_fault(asked, json.dumps(answer((0, "stop"), (1, "length"))).encode()) is None
    assert whole_fault(asked, json.dumps(answer((0, "stop"), **stopped)).encode()) is None
    for wrong in (
        answer((0, "stop")),
        answer((0, "stop"), (2, "stop")),
        answer((0, "stop"), (1, None)),
        answer((0, "stop"), (1, "stop"), usage={"completion_tokens": 0}),
    ):
        assert whole_fault(asked, json.dumps(wrong).encode()) is not None


def test_streams() -> None:
    last = answer()
    error = {"error": {"code": "deadline", "message": "m", "type": "timeout_error"}}
    assert events_fault(STREAMED, stream(answer((0, "stop")), last)) == (None, None)
    assert events_fault(STREAMED, stream(answer((0, None)), error)) == (None, error["error"])
    for wrong in (
        stream(answer((0, "stop")), last, end=b""),
        stream(answer((0, None)), last),
        stream(answer((0, "stop")), answer((0, "stop")), last),
        stream(error, answer((0, "stop"))),
        stream(last),
    ):
        assert events_fault(STREAMED, wrong)[0] is not None


@pytest.mark.parametrize("outcome", ["deadline", "unavailable", "broke off"])
def test_what_was_not_asked_for_is_a_fault(outcome: str) -> None:
    tally = Tally()
    tally.add(Asked("relay", {}), outcome, None, time.monotonic())
    assert len(tally.faults) == 1


def test_a_relayed_answer_may_break_off_when_its_server_dies_and_a_tree_may_not() -> None:
    tally = Tally(killed_at=time.monotonic())
    tally.add(Asked("relay", {}), "broke off", None, time.monotonic())
    assert not tally.faults
    tally.add(Asked("vote", {}), "broke off", None, time.monotonic())
    assert len(tally.faults) == 1


def test_all_kinds_and_ends_are_asked_for() -> None:
    rng = random.Random(1)
    asked = [random_request(rng, "m", [[{"role": "user", "content": "a"}]]) for _ in range(400)]
    assert {one.kind for one in asked} == set(KINDS)
    assert 20 <= sum(one.leaves_after is not None for one in asked) <= 60
    assert any(one.has_deadline for one in asked)
    assert any("deadline_s" in one.body.get("eager", {}) for one in asked)
