"""Ranks of a parallel group end requests below a floor together, also where one of them fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from eager_sgl.plugin import hooks, seeds
from eager_sgl.plugin.blocks import unpack
from eager_sgl.plugin.vocabulary import KEY, Gate
from tests.plugin.fakes import Group, Request, opened, params

TOP_K, VOCABULARY, NUM_STEPS = 2, 8, 5
OURS = math.log(VOCABULARY)
"""The confidence of every step, in which all tokens are as likely."""
FLOOR = OURS / 2


class Sampler:
    """The part of SGLang's that the plugin reads."""

    use_ascend_backend = use_log_softmax_logprob = enable_deterministic = False
    tp_sync_group, cp_sync_group = "tensor", None


def fault_of(request: Request) -> str | None:
    return unpack(request.customized_info[KEY][0 : len(request.output_ids)], TOP_K).fault


@pytest.fixture(autouse=True)
def _outside_sglang(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hooks, "_below_floor", lambda: "low")
    yield
    hooks.record_steps(keep=0)


def decode(requests: list[Request]) -> None:
    """A step of a batch."""
    number = len(requests)
    lengths = [len(r.origin_input_ids) + len(r.output_ids) for r in requests]
    plain = dict.fromkeys(("need_top_p_sampling", "need_top_k_sampling", "need_min_p_sampling"))
    info = SimpleNamespace(is_all_greedy=False, temperatures=torch.ones(number, 1), **plain)
    batch = SimpleNamespace(reqs=requests, sampling_info=info, seq_lens_cpu=torch.tensor(lengths))
    hooks.attach_reports(batch, object, batch)
    output = SimpleNamespace(next_token_logits=torch.full((number, VOCABULARY), 1 / VOCABULARY))
    runner = SimpleNamespace(sampler=Sampler())
    hooks.observe(lambda *_: torch.zeros(number, dtype=torch.long), runner, output, batch)
    for request in requests:
        request.output_ids.append(0)


def batch() -> list[Request]:
    """One request with a floor, and one without."""
    gates = Gate(top_k=TOP_K, window=1, floor=FLOOR), Gate(top_k=TOP_K, columns=("entropies",))
    return [opened(params(custom_params=gate.custom_params())) for gate in gates]


def fail(*arguments: Any) -> Tensor:
    raise RuntimeError("no memory")


@pytest.mark.parametrize("first_fault", [0, 2])
def test_a_rank_that_fails_ends_requests_where_the_others_do(
    first_fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would wait for its confidences, or for its tokens of a request that has ended."""
    group = Group(torch.tensor([FLOOR / 2, math.inf]))
    monkeypatch.setattr(seeds, "dist", group)
    requests = batch()
    ends = []
    for step in range(NUM_STEPS):
        if step == first_fault:
            monkeypatch.setattr(hooks, "read_step", fail)
        decode(requests)
        ends.append(requests[0].to_finish)
    assert ends == [None, None, *["low"] * (NUM_STEPS - 2)]
    assert group.num_calls == NUM_STEPS
    assert all("no memory" in str(fault_of(request)) for request in requests)


def test_a_rank_keeps_agreeing_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gates are off, and it reads fewer rows than the others; the floor still counts."""
    group = Group(torch.tensor([math.inf, math.inf]))
    monkeypatch.setattr(seeds, "dist", group)
    requests = batch()
    for request in requests:
        request.customized_info[KEY].report.fail("no memory")
    decode(requests)
    group.other[0] = FLOOR / 2
    for _ in range(NUM_STEPS):
        decode(requests)
    assert group.num_calls == 1 + NUM_STEPS
    assert requests[0].to_finish == "low"


def test_the_fault_of_another_rank_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(torch.tensor([math.inf, math.inf]))
    monkeypatch.setattr(seeds, "dist", group)
    requests = batch()
    for _ in range(NUM_STEPS):
        decode(requests)
    assert group.num_calls == NUM_STEPS
    assert [request.to_finish for request in requests] == [None, None]
    assert [fault_of(request) for request in requests] == [None, None]
