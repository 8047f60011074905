"""The processor on plain tensors: it fires where `signals.top_k_entropy` says, and only there."""

import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor

from eager_sgl.gate import Gate, processor_text
from eager_sgl.gate_processor import EntropyGate
from eager_sgl.signals import retemper, top_k_entropy

RESERVED = 7


def params_of(threshold=1.5, top_k=20, temperature=1.0, token_id=RESERVED):
    return Gate(threshold, top_k, temperature, token_id).custom_params()


def entropy_of(row, top_k, temperature):
    logprobs = np.sort(torch.log_softmax(row, -1).numpy())[::-1][:top_k]
    return float(top_k_entropy(retemper(logprobs, taken_at=1.0, wanted=temperature)))


def random_logits(rows, vocabulary=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.rand(rows, 1, generator=generator) * 6
    return torch.randn(rows, vocabulary, generator=generator) * sharpness


@pytest.mark.parametrize("top_k", [2, 20, 50, 80])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_it_fires_where_the_entropy_reaches_theta(top_k, temperature):
    logits = random_logits(400)
    entropies = [entropy_of(row, top_k, temperature) for row in logits]
    threshold = float(np.median(entropies))
    params = [params_of(threshold, top_k, temperature)] * len(logits)
    out = EntropyGate()(logits.clone(), params)
    fired = [bool(torch.isfinite(row).sum() == 1 and row[RESERVED] == 0) for row in out]
    for fires, entropy in zip(fired, entropies, strict=True):
        assert fires == (entropy >= threshold) or abs(entropy - threshold) < 1e-5
    assert 100 < sum(fired) < 300


def test_a_closed_gate_changes_nothing_but_the_reserved_token():
    logits = random_logits(30)
    out = EntropyGate()(logits.clone(), [params_of(threshold=math.inf)] * 30)
    assert (out[:, RESERVED] == -math.inf).all()
    others = torch.arange(50) != RESERVED
    assert torch.equal(out[:, others], logits[:, others])


def test_every_row_has_its_own_parameters():
    logits = random_logits(6, seed=3)
    kinds = [(5, 1.0, 3), (20, 0.6, 4), (50, 1.0, 5), (20, 2.0, 6), (2, 1.0, 8), (20, 1.0, 9)]
    for place, (top_k, temperature, token_id) in enumerate(kinds):
        entropy = entropy_of(logits[place], top_k, temperature)
        params = [params_of(math.inf)] * 6
        for threshold, fires in ((entropy - 1e-4, True), (entropy + 1e-4, False)):
            params[place] = params_of(threshold, top_k, temperature, token_id)
            out = EntropyGate()(logits.clone(), params)
            assert bool(torch.isfinite(out[place]).sum() == 1) == fires
            assert bool(out[place, token_id] == 0) == fires
            assert not any(torch.isfinite(row).sum() == 1 for row in out[torch.arange(6) != place])


@pytest.mark.parametrize("foreign", [None, {}, {"thinking_budget": 3}])
def test_rows_without_a_gate_are_left_alone(foreign):
    logits = random_logits(4)
    out = EntropyGate()(logits.clone(), [foreign, params_of(1e-9), foreign, foreign])
    others = torch.tensor([0, 2, 3])
    assert torch.equal(out[others], logits[others])
    assert torch.isfinite(out[1]).sum() == 1


def test_without_parameters_it_does_nothing():
    logits = random_logits(2)
    assert torch.equal(EntropyGate()(logits.clone(), None), logits)


def test_a_batch_that_changes_is_noticed():
    gate, logits = EntropyGate(), random_logits(3)
    closed, opened = params_of(math.inf), params_of(1e-9)
    for params in ([closed] * 3, [closed, opened, closed], [opened, closed, closed], [opened]):
        out = gate(logits[: len(params)].clone(), params)
        fired = [bool(torch.isfinite(row).sum() == 1) for row in out]
        assert fired == [p is opened for p in params]


def test_impossible_tokens_do_not_make_the_entropy_nan():
    logits = torch.full((1, 50), -math.inf)
    logits[0, :3] = 0.0
    assert torch.isfinite(EntropyGate()(logits.clone(), [params_of(math.log(3) - 1e-5)])).sum() == 1
    assert torch.isfinite(EntropyGate()(logits.clone(), [params_of(math.log(3) + 1e-5)])).sum() == 3


def test_a_server_makes_the_processor_from_the_text_alone():
    gate = CustomLogitProcessor.from_str(processor_text())
    assert type(gate) is not EntropyGate
    logits = random_logits(20)
    params = [params_of(1.0)] * 20
    assert torch.equal(gate(logits.clone(), params), EntropyGate()(logits.clone(), params))
    assert len(processor_text()) < 6000


class Request:
    """What the processor sees of SGLang's `Req`."""

    def __init__(self, **params):
        self.customized_info = None
        self.finished_reason = None
        self.params = params_of(**params) | {"__req__": weakref.proxy(self)}

    def sent(self):
        return self.customized_info["eager_gate"][0:9]


@pytest.mark.parametrize("steps_after", [0, 1])
def test_a_stopped_request_tells_what_its_step_was(steps_after):
    """Also where the server has begun a step more, or run other batches, before it sends that."""
    gate = CustomLogitProcessor.from_str(processor_text())
    row = random_logits(1)[0]
    threshold = entropy_of(row, 20, 1.0) - 1e-4
    request, other = Request(threshold=threshold), Request(threshold=math.inf)
    calm = torch.zeros(50)
    calm[3] = 30.0
    CustomLogitProcessor.from_str(processor_text())(calm[None].clone(), [request.params])
    assert request.sent() == []
    gate(torch.stack([calm, calm]), [other.params, request.params])
    out = gate(torch.stack([calm, row]), [other.params, request.params])
    assert torch.isfinite(out[1]).sum() == 1
    for _ in range(steps_after):
        gate(torch.stack([calm, torch.zeros(50)]), [other.params, request.params])
    gate(torch.zeros(1, 50), [other.params])
    request.finished_reason = SimpleNamespace(matched=RESERVED)
    token_ids, logprobs = request.sent()
    values, expected = torch.log_softmax(row, -1).topk(20)
    assert token_ids == expected.tolist()
    assert logprobs == pytest.approx(values.tolist(), abs=1e-5)


def test_a_request_that_ended_otherwise_tells_nothing():
    request = Request(threshold=math.inf)
    EntropyGate()(random_logits(1), [request.params])
    for reason in (None, SimpleNamespace(matched=RESERVED + 1), SimpleNamespace(length=3)):
        request.finished_reason = reason
        assert request.sent() == []


def test_logprobs_of_impossible_tokens_are_numbers():
    logits = torch.full((1, 50), -math.inf)
    logits[0, :3] = 0.0
    request = Request(threshold=0.5)
    EntropyGate()(logits, [request.params])
    request.finished_reason = SimpleNamespace(matched=RESERVED)
    assert all(math.isfinite(logprob) for logprob in request.sent()[1])
