"""The processor on plain tensors: it tells of the steps that `signals.top_k_entropy` names."""

import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor

from eager_sgl.engine.gate.parameters import Gate, processor_text
from eager_sgl.engine.gate.processor import INFO_KEY, EntropyGate
from eager_sgl.signals import retemper, top_k_entropy

PROMPT = [1, 2, 3]


class Request:
    """What the processor sees of SGLang's `Req`."""

    def __init__(self, threshold=1.5, top_k=20, temperature=1.0, max_reports=100):
        self.customized_info = None
        self.origin_input_ids = PROMPT
        self.kv = SimpleNamespace(kv_committed_len=len(PROMPT))
        self.sampling_params = SimpleNamespace(stream_interval=None)
        params = Gate(threshold, top_k, temperature, max_reports).custom_params()
        self.params = params | {"__req__": weakref.proxy(self)}

    def next(self):
        """The server has taken a step for it."""
        self.kv.kv_committed_len += 1

    @property
    def num_tokens(self):
        return self.kv.kv_committed_len - len(PROMPT)

    def sent(self, since=0):
        return self.customized_info[INFO_KEY][since : self.num_tokens]

    @property
    def is_to_be_sent(self):
        return self.sampling_params.stream_interval in (None, 1)  # None is SGLang's own, 1


def step(logits, *requests, gate=None):
    """One forward pass, of which each request gets a token."""
    logits = torch.stack(list(logits)) if not isinstance(logits, torch.Tensor) else logits
    params = [r.params if isinstance(r, Request) else r for r in requests]
    out = (gate or EntropyGate())(logits.clone(), params)
    assert torch.equal(out, logits)
    for request in requests:
        if isinstance(request, Request):
            request.next()


def entropy_of(row, top_k, temperature):
    logprobs = np.sort(torch.log_softmax(row, -1).numpy())[::-1][:top_k]
    return float(top_k_entropy(retemper(logprobs, taken_at=1.0, wanted=temperature)))


def random_logits(rows, vocabulary=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.rand(rows, 1, generator=generator) * 6
    return torch.randn(rows, vocabulary, generator=generator) * sharpness


FLAT, PEAKED = torch.zeros(50), torch.zeros(50)
PEAKED[3] = 30.0


@pytest.mark.parametrize("top_k", [2, 20, 50, 80])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_it_tells_of_steps_whose_entropy_reaches_theta(top_k, temperature):
    logits = random_logits(400)
    entropies = [entropy_of(row, top_k, temperature) for row in logits]
    threshold = float(np.median(entropies))
    requests = [Request(threshold, top_k, temperature) for _ in logits]
    step(logits, *requests)
    reported = [bool(request.sent()) for request in requests]
    for fires, entropy in zip(reported, entropies, strict=True):
        assert fires == (entropy >= threshold) or abs(entropy - threshold) < 1e-5
    assert 100 < sum(reported) < 300


def test_every_row_has_its_own_parameters():
    logits = random_logits(6, seed=3)
    kinds = [(5, 1.0), (20, 0.6), (50, 1.0), (20, 2.0), (2, 1.0), (20, 1.0)]
    for place, (top_k, temperature) in enumerate(kinds):
        entropy = entropy_of(logits[place], top_k, temperature)
        for threshold, fires in ((entropy - 1e-4, True), (entropy + 1e-4, False)):
            requests = [Request(math.inf) for _ in logits]
            requests[place] = Request(threshold, top_k, temperature)
            step(logits, *requests)
            reported = [request.sent() for request in requests]
            assert [bool(reports) for reports in reported] == [
                fires and i == place for i in range(6)
            ]
            if fires:
                ((_, token_ids, logprobs),) = reported[place]
                assert len(token_ids) == len(logprobs) == top_k


@pytest.mark.parametrize("foreign", [None, {}, {"thinking_budget": 3}])
def test_rows_without_a_gate_are_left_alone(foreign):
    request = Request(1e-9)
    step(random_logits(4), foreign, request, foreign, foreign)
    assert len(request.sent()) == 1


def test_without_parameters_it_does_nothing():
    logits = random_logits(2)
    assert torch.equal(EntropyGate()(logits.clone(), None), logits)


def test_what_it_says_of_a_step():
    row, request = random_logits(1)[0], Request(0.1, top_k=7)
    step([row], request)
    ((place, token_ids, logprobs),) = request.sent()
    values, expected = torch.log_softmax(row, -1).topk(7)
    assert place == 0
    assert token_ids == expected.tolist()
    assert logprobs == pytest.approx(values.tolist(), abs=1e-5)


def test_a_request_is_sent_where_there_is_something_to_tell_and_told_once():
    """Wherever it runs: alone or with others, in one batch object of SGLang's or another."""
    gate, request, other = EntropyGate(), Request(1.0), Request(math.inf)
    step([PEAKED], request)
    assert not request.is_to_be_sent
    step([PEAKED, FLAT], other, request, gate=gate)
    assert request.is_to_be_sent
    assert [place for place, _, _ in request.sent()] == [1]
    assert not request.is_to_be_sent
    step([FLAT, PEAKED], other, request, gate=gate)
    step([FLAT, FLAT], other, request, gate=gate)
    step([FLAT], request)
    assert [place for place, _, _ in request.sent(since=2)] == [3, 4]
    assert not other.is_to_be_sent
    assert other.sent() == []


def test_a_row_that_another_request_took_over_tells_of_that_one():
    gate, first, second = EntropyGate(), Request(1.0), Request(1.0)
    step([FLAT], first, gate=gate)
    step([FLAT], second, gate=gate)
    assert [place for place, _, _ in first.sent()] == [0]
    assert [place for place, _, _ in second.sent()] == [0]


def test_a_step_that_runs_again_is_told_once():
    """The server puts a request off, forgets the token it was at, and takes it up again."""
    request = Request(1.0, max_reports=2)
    EntropyGate()(FLAT[None].clone(), [request.params])
    step([FLAT], request)
    step([FLAT], request)
    assert [place for place, _, _ in request.sent()] == [0, 1]


def test_what_others_have_to_say_of_a_request_is_kept():
    request = Request(1.0)
    request.customized_info = {"theirs": [1]}
    step([FLAT], request)
    assert request.customized_info["theirs"] == [1]
    assert len(request.sent()) == 1


def test_no_more_steps_are_told_of_than_were_asked_for():
    request = Request(1.0, max_reports=2)
    for _ in range(4):
        step([FLAT], request)
    assert [place for place, _, _ in request.sent()] == [0, 1]
    step([FLAT], request)
    assert not request.is_to_be_sent


def test_a_step_that_the_server_has_begun_but_not_taken_yet_is_told_later():
    """Overlapped scheduling: one step more runs while the tokens of the last are sent."""
    request = Request(1.0)
    step([FLAT], request)
    EntropyGate()(FLAT[None].clone(), [request.params])
    assert [place for place, _, _ in request.sent()] == [0]
    assert request.is_to_be_sent
    request.next()
    assert [place for place, _, _ in request.sent(since=1)] == [1]


def test_pieces_of_a_long_prompt_are_no_steps():
    request = Request(1.0)
    request.kv.kv_committed_len = 2
    EntropyGate()(FLAT[None].clone(), [request.params])
    request.kv.kv_committed_len = len(PROMPT)
    assert request.sent() == []
    step([FLAT], request)
    assert [place for place, _, _ in request.sent()] == [0]


@pytest.mark.parametrize("kv", [None, SimpleNamespace(another_count=7)])
def test_a_server_that_counts_elsewhere_is_told_nothing_and_goes_on(kv):
    request = Request(1.0)
    request.kv = kv
    EntropyGate()(FLAT[None].clone(), [request.params])
    assert request.customized_info[INFO_KEY][0:9] == []


def test_a_request_that_is_gone_disturbs_nobody():
    class Unfinished:
        def __init__(self):
            self.finished = False

        def has_finished(self):
            return self.finished

        def record(self):
            pass

    blocking, gone, request = Unfinished(), Request(1.0), Request(1.0)
    EntropyGate._steps.append(blocking)
    step([FLAT, FLAT], gone, request)
    del gone
    blocking.finished = True
    assert len(request.sent()) == 1


def test_impossible_tokens_do_not_make_the_entropy_nan():
    logits = torch.full((50,), -math.inf)
    logits[:3] = 0.0
    below, above = Request(math.log(3) - 1e-5), Request(math.log(3) + 1e-5)
    step([logits, logits], below, above)
    ((_, _, logprobs),) = below.sent()
    assert all(map(math.isfinite, logprobs))
    assert above.sent() == []


def test_a_server_makes_the_processor_from_the_text_alone():
    gate = CustomLogitProcessor.from_str(processor_text())
    assert type(gate) is not EntropyGate
    ours, theirs = [[Request(1.0) for _ in range(20)] for _ in range(2)]
    step(random_logits(20), *ours)
    step(random_logits(20), *theirs, gate=gate)
    assert [r.sent() for r in ours] == [r.sent() for r in theirs]
    assert len(processor_text()) < 8000
