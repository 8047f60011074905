"""The gate's processor on plain tensors reports the steps that `signals.top_k_entropy` names."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor
from torch import Tensor

from eager_sgl.engine.gate.pickled import pickled_params, processor_text
from eager_sgl.engine.gate.processor import INFO_KEY, EntropyGate
from eager_sgl.engine.protocol import Json
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.signals import retemper, top_k_entropy

PROMPT = [1, 2, 3]
UNREACHED = 100.0
"""Above any entropy."""


class Request:
    """The part of SGLang's `Req` that the processor reads."""

    def __init__(
        self,
        threshold: float = 1.5,
        top_k: int = 20,
        temperature: float = 1.0,
        max_reports: int = 100,
    ) -> None:
        self.customized_info: Any = None
        self.origin_input_ids = PROMPT
        self.kv: Any = SimpleNamespace(kv_committed_len=len(PROMPT))
        self.sampling_params = SimpleNamespace(stream_interval=None)
        gate = Gate(
            top_k=top_k,
            threshold=min(threshold, UNREACHED),
            temperature=temperature,
            max_reports=max_reports,
        )
        params = pickled_params(gate)
        self.params = params | {"__req__": weakref.proxy(self)}

    def next(self) -> None:
        """The server has taken a step of the request."""
        self.kv.kv_committed_len += 1

    @property
    def num_tokens(self) -> int:
        return int(self.kv.kv_committed_len) - len(PROMPT)

    def reports(self, since: int = 0) -> list[Any]:
        sent: list[Any] = self.customized_info[INFO_KEY][since : self.num_tokens]
        return sent

    def indices(self, since: int = 0) -> list[int]:
        """Indices of the steps that are reported."""
        return [index for index, _, _ in self.reports(since)]

    @property
    def is_sent_at_once(self) -> bool:
        # None stands for the server's default, 1.
        return self.sampling_params.stream_interval in (None, 1)


def step(
    rows: Iterable[Tensor], *requests: Request | Json | None, gate: EntropyGate | None = None
) -> None:
    """A forward pass, after which every request has a new token."""
    logits = torch.stack(list(rows))
    params = [r.params if isinstance(r, Request) else r for r in requests]
    out = (gate or EntropyGate())(logits.clone(), params)
    assert torch.equal(out, logits)
    for request in requests:
        if isinstance(request, Request):
            request.next()


def entropy_of(row: Tensor, top_k: int, temperature: float) -> float:
    logprobs = np.sort(torch.log_softmax(row, -1).numpy())[::-1][:top_k]
    return float(top_k_entropy(retemper(logprobs, taken_at=1.0, wanted=temperature)))


def random_logits(rows: int, vocabulary: int = 50, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.rand(rows, 1, generator=generator) * 6
    return torch.randn(rows, vocabulary, generator=generator) * sharpness


FLAT, PEAKED = torch.zeros(50), torch.zeros(50)
PEAKED[3] = 30.0


@pytest.mark.parametrize("top_k", [2, 20, 50, 80])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_it_reports_steps_whose_entropy_reaches_theta(top_k: int, temperature: float) -> None:
    logits = random_logits(400)
    entropies = [entropy_of(row, top_k, temperature) for row in logits]
    threshold = float(np.median(entropies))
    requests = [Request(threshold, top_k, temperature) for _ in logits]
    step(logits, *requests)
    reported = [bool(request.reports()) for request in requests]
    for fires, entropy in zip(reported, entropies, strict=True):
        assert fires == (entropy >= threshold) or abs(entropy - threshold) < 1e-5
    assert 100 < sum(reported) < 300


def test_rows_have_separate_parameters() -> None:
    logits = random_logits(6, seed=3)
    kinds = [(5, 1.0), (20, 0.6), (50, 1.0), (20, 2.0), (2, 1.0), (20, 1.0)]
    for row, (top_k, temperature) in enumerate(kinds):
        entropy = entropy_of(logits[row], top_k, temperature)
        for threshold, fires in ((entropy - 1e-4, True), (entropy + 1e-4, False)):
            requests = [Request(math.inf) for _ in logits]
            requests[row] = Request(threshold, top_k, temperature)
            step(logits, *requests)
            reported = [request.reports() for request in requests]
            assert [bool(reports) for reports in reported] == [fires and i == row for i in range(6)]
            if fires:
                ((_, token_ids, logprobs),) = reported[row]
                assert len(token_ids) == len(logprobs) == top_k


@pytest.mark.parametrize("foreign", [None, {}, {"thinking_budget": 3}])
def test_rows_without_a_gate_are_not_monitored(foreign: Json | None) -> None:
    request = Request(1e-9)
    step(random_logits(4), foreign, request, foreign, foreign)
    assert len(request.reports()) == 1


def test_without_parameters_it_does_nothing() -> None:
    logits = random_logits(2)
    assert torch.equal(EntropyGate()(logits.clone(), None), logits)


def test_a_report_has_the_index_the_alternatives_and_their_logprobs() -> None:
    row, request = random_logits(1)[0], Request(0.1, top_k=7)
    step([row], request)
    ((index, token_ids, logprobs),) = request.reports()
    values, expected = torch.log_softmax(row, -1).topk(7)
    assert index == 0
    assert token_ids == expected.tolist()
    assert logprobs == pytest.approx(values.tolist(), abs=1e-5)


def test_a_request_is_sent_at_once_after_a_report_which_is_sent_once() -> None:
    """Whether it runs alone or with others, in the same batch object of SGLang's or a new one."""
    gate, request, other = EntropyGate(), Request(1.0), Request(math.inf)
    step([PEAKED], request)
    assert not request.is_sent_at_once
    step([PEAKED, FLAT], other, request, gate=gate)
    assert request.is_sent_at_once
    assert request.indices() == [1]
    assert not request.is_sent_at_once
    step([FLAT, PEAKED], other, request, gate=gate)
    step([FLAT, FLAT], other, request, gate=gate)
    step([FLAT], request)
    assert request.indices(since=2) == [3, 4]
    assert not other.is_sent_at_once
    assert other.reports() == []


def test_a_row_that_another_request_takes_over_reports_that_request() -> None:
    gate, first, second = EntropyGate(), Request(1.0), Request(1.0)
    step([FLAT], first, gate=gate)
    step([FLAT], second, gate=gate)
    assert first.indices() == [0]
    assert second.indices() == [0]


def test_a_step_that_runs_again_is_reported_once() -> None:
    """The server retracts a request, drops its last token, and resumes it."""
    request = Request(1.0, max_reports=2)
    EntropyGate()(FLAT[None].clone(), [request.params])
    step([FLAT], request)
    step([FLAT], request)
    assert request.indices() == [0, 1]


def test_customized_info_of_other_processors_is_kept() -> None:
    request = Request(1.0)
    request.customized_info = {"theirs": [1]}
    step([FLAT], request)
    assert request.customized_info["theirs"] == [1]
    assert len(request.reports()) == 1


def test_the_number_of_reports_is_limited() -> None:
    request = Request(1.0, max_reports=2)
    for _ in range(4):
        step([FLAT], request)
    assert request.indices() == [0, 1]
    step([FLAT], request)
    assert not request.is_sent_at_once


def test_a_step_whose_token_is_not_known_yet_is_reported_later() -> None:
    """Overlapped scheduling: the next step runs while the tokens of the last are sent."""
    request = Request(1.0)
    step([FLAT], request)
    EntropyGate()(FLAT[None].clone(), [request.params])
    assert request.indices() == [0]
    assert request.is_sent_at_once
    request.next()
    assert request.indices(since=1) == [1]


def test_chunks_of_a_long_prompt_are_no_steps() -> None:
    request = Request(1.0)
    request.kv.kv_committed_len = 2
    EntropyGate()(FLAT[None].clone(), [request.params])
    request.kv.kv_committed_len = len(PROMPT)
    assert request.reports() == []
    step([FLAT], request)
    assert request.indices() == [0]


@pytest.mark.parametrize("kv", [None, SimpleNamespace(another_count=7)])
def test_a_server_without_the_token_count_gets_no_reports_and_continues(
    kv: SimpleNamespace | None,
) -> None:
    request = Request(1.0)
    request.kv = kv
    EntropyGate()(FLAT[None].clone(), [request.params])
    assert request.customized_info[INFO_KEY][0:9] == []


def test_a_request_that_has_ended_does_not_disturb_others() -> None:
    class Unfinished:
        def __init__(self) -> None:
            self.finished = False

        def has_finished(self) -> bool:
            return self.finished

        def record(self) -> None:
            pass

    blocking, gone, request = Unfinished(), Request(1.0), Request(1.0)
    EntropyGate._steps.append(blocking)
    step([FLAT, FLAT], gone, request)
    del gone
    blocking.finished = True
    assert len(request.reports()) == 1


def test_impossible_tokens_do_not_make_the_entropy_nan() -> None:
    logits = torch.full((50,), -math.inf)
    logits[:3] = 0.0
    below, above = Request(math.log(3) - 1e-5), Request(math.log(3) + 1e-5)
    step([logits, logits], below, above)
    ((_, _, logprobs),) = below.reports()
    assert all(map(math.isfinite, logprobs))
    assert above.reports() == []


def test_a_server_makes_the_processor_from_the_text_alone() -> None:
    gate = CustomLogitProcessor.from_str(processor_text())
    assert type(gate) is not EntropyGate
    ours, theirs = [[Request(1.0) for _ in range(20)] for _ in range(2)]
    step(random_logits(20), *ours)
    step(random_logits(20), *theirs, gate=gate)
    assert [r.reports() for r in ours] == [r.reports() for r in theirs]
    assert len(processor_text()) < 8000


def test_the_text_needs_no_eager_sgl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that loads it has none."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "eager_sgl"]:
        monkeypatch.setitem(sys.modules, name, None)
    gate = CustomLogitProcessor.from_str(_uncached(processor_text()))
    request = Request(1.0)
    step([FLAT], request, gate=gate)
    assert request.indices() == [0]


def _uncached(text: str) -> str:
    """The same processor in another text, since SGLang keeps those that it has loaded."""
    return text + " "
