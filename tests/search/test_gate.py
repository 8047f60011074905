"""What searches store from the gate's reports is what they store from all logprobs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl import Method, PromptResult, SamplingConfig, SearchConfig
from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.engine.gate.reports import PluginReports
from eager_sgl.errors import ServerUnsuitableError
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.prompt import grow
from eager_sgl.plugin.vocabulary import KEY
from eager_sgl.search.frontier import StepRecorder
from eager_sgl.signals import Floats, top_k_entropy
from eager_sgl.tree import Segment, TokenTree
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.gates import PluginRecorder, indices_of
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution, tempered
from tests.fakes.searches import search_of
from tests.generate.prompts import in_loop, replicas_of

ORDERS = ("best_first", "trie_parallel", "swor")
NUM_TOKENS, SIZE, CLOSE = 12, 30, 7
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=9)


class Drawn:
    """Random steps of a request, as both ways report them."""

    def __init__(self, seed: int, temperature: float, top_k: int) -> None:
        rng = np.random.default_rng(seed)
        scales = rng.choice([1.0, 4.0, 40.0], NUM_TOKENS)
        logits = rng.normal(0, 1, (NUM_TOKENS, SIZE)) * scales[:, None]
        raw = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.raw: Floats = np.maximum(raw / raw.sum(axis=1, keepdims=True), 1e-30)
        at = temperature or 1.0
        self.whole = np.array([tempered(tuple(row), at, 1.0) for row in self.raw])
        order = np.argsort(-self.raw, axis=1, kind="stable")
        ranks = rng.integers(0, [1, 3, SIZE][seed % 3], NUM_TOKENS)
        self.token_ids = tuple(order[np.arange(NUM_TOKENS), ranks].tolist())
        self._top, self._temperature = order[:, :top_k], temperature
        self._random = random.Random(seed)

    def read(self) -> Generation:
        """With the logprobs of all steps."""
        rows = np.log(np.take_along_axis(self.whole, self._top, axis=1)).astype(np.float32)
        drawn = np.log(self.whole[np.arange(NUM_TOKENS), self.token_ids]).astype(np.float32)
        top = TopLogprobs(self._top.astype(np.int32), rows, self._temperature or 1.0)
        return self._answer(NUM_TOKENS, logprobs=drawn, top=top)

    def parts(self, recorder: StepRecorder, top_k: int) -> list[Generation]:
        """The parts of a stream with a gate."""
        gate = recorder.gate(top_k)
        server, reader = PluginRecorder(gate), PluginReports(gate, self._temperature)
        for step, token in enumerate(self.token_ids):
            server.observe(step, token, self.raw[step], self.whole[step])
        blocks = server.meta()[KEY]
        lengths = [*sorted(self._random.sample(range(1, NUM_TOKENS), 3)), NUM_TOKENS]
        parts = []
        for length in lengths:
            sent = [b for b, (i, _) in zip(blocks, indices_of(blocks), strict=True) if i < length]
            parts.append(reader.add_to(self._answer(length), {KEY: sent}))
        return parts

    def _answer(self, length: int, **fields: Any) -> Generation:
        answer = Generation(self.token_ids[:length], None, 1, 0, **fields)
        return replace(answer, finish_reason="length") if length == NUM_TOKENS else answer


def grown(recorder: StepRecorder, parts: list[Generation]) -> Segment:
    tree = TokenTree((9,), max_new_tokens=40, policy=recorder, reasoning_end=(CLOSE,))
    root = tree.open_root()
    for part in parts:
        tree.append(root, part, NUM_TOKENS, start=0)
    assert tree.spent.generated == NUM_TOKENS
    return root


@given(
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.0, 0.6, 1.0, 1.3]),
    order=st.sampled_from(ORDERS),
    top_k=st.sampled_from([2, 8, SIZE]),
)
@settings(max_examples=200, deadline=None)
def test_reports_in_any_parts_give_the_segment_of_all_logprobs(
    seed: int, temperature: float, order: str, top_k: int
) -> None:
    recorder = search_of(order, sampling=SamplingConfig(temperature=temperature)).policy()
    assert isinstance(recorder, StepRecorder)
    drawn = Drawn(seed, temperature, top_k)
    ours = grown(recorder, drawn.parts(recorder, top_k))
    theirs = grown(recorder, [drawn.read()])
    assert ours.steps is not None
    assert theirs.steps is not None
    for name, expected in vars(theirs.steps).items():
        np.testing.assert_array_equal(getattr(ours.steps, name), expected)
    assert (ours.token_ids, ours.open_until) == (theirs.token_ids, theirs.open_until)
    for name in ("logprobs", "raw_logprobs", "entropies"):
        values = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(*values, atol=1e-5)


def test_a_gate_reports_steps_near_the_bound_that_are_not_stored() -> None:
    """The server rounds otherwise than the client, which decides."""
    recorder = StepRecorder(stored_below=0.5)
    gate = recorder.gate(3)
    reader, server = PluginReports(gate, 1.0), PluginRecorder(gate)
    for step, first in enumerate((0.5, 0.4, 0.50005, 0.6)):
        probabilities = np.array([first, (1 - first) / 2, (1 - first) / 2])
        server.observe(step, 0, probabilities, probabilities)
    answer = Generation((0,) * 4, "length", 1, 0)
    generation = reader.add_to(answer, server.meta())
    assert generation.reported == (0, 1, 2)
    root = grown_of_four(recorder, generation)
    assert root.steps is not None
    assert root.steps.positions.tolist() == [1]


def grown_of_four(recorder: StepRecorder, generation: Generation) -> Segment:
    tree = TokenTree((9,), max_new_tokens=40, policy=recorder)
    root = tree.open_root()
    parts = [replace(generation, finish_reason=None), generation]
    for part in parts:
        tree.append(root, part, 4, start=0)
    return root


def run(model: int, method: Method, **options: Any) -> tuple[PromptResult, ScriptedServer]:
    server = ScriptedServer(mixed_distribution(model), **options)
    endpoint = endpoint_of(server)
    server.restart(0)
    return run_method(method, endpoint, server.prompt), server


@pytest.mark.parametrize("model", range(8))
@pytest.mark.parametrize("order", ORDERS)
def test_greedy_searches_are_the_same_under_every_monitor(order: str, model: int) -> None:
    fields: dict[str, Any] = {"top_k": VOCABULARY, "max_sequences": 12, "sampling": GREEDY}
    gate, chunk = (
        run(model, search_of(order, monitor=monitor, **fields), allows_gate=True)[0]
        for monitor in ("gate", "chunk")
    )
    assert (gate.monitor, chunk.monitor) == ("gate", "chunk")
    assert (gate.counts, gate.inexact_steps) == (chunk.counts, chunk.inexact_steps)
    for ours, theirs in zip(gate.sequences, chunk.sequences, strict=True):
        assert (ours.token_ids, ours.parent) == (theirs.token_ids, theirs.parent)
        assert ours.raw_logprob == pytest.approx(theirs.raw_logprob, abs=1e-5)
        for name in ("logprobs", "entropies"):
            values = getattr(ours, name), getattr(theirs, name)
            np.testing.assert_allclose(*values, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_a_search_requests_every_segment_once_and_no_logprobs(order: str) -> None:
    search = search_of(order, top_k=VOCABULARY, max_sequences=12, reasoning_end=None)
    result, server = run(42, search, allows_gate=True)
    requests = [r for r in server.requests if "logit_bias" not in r["sampling_params"]]
    assert len(requests) == result.counts.requests
    assert not any(request.get("return_logprob") for request in requests)
    # Where a search has rounds, nothing depends on tokens that are still arriving.
    assert any(request.get("stream") for request in requests) == (order != "swor")
    assert all(KEY in request["sampling_params"]["custom_params"] for request in requests)


def test_an_observer_sees_the_tokens_of_one_request_while_it_runs() -> None:
    search = search_of(
        "best_first",
        top_k=VOCABULARY,
        max_sequences=3,
        reasoning_end=None,
        sampling=SamplingConfig(temperature=1.0, max_new_tokens=200),
    )
    server, seen = DecodingServer(allows_gate=True), list[int]()

    async def follow() -> PromptResult:
        replicas = await replicas_of(server)
        return await grow(
            replicas,
            (9,),
            search,
            limits=PromptLimits(stream_interval=10),
            observers=[lambda decision, counts: seen.append(counts.generated)],
        )

    result = in_loop(follow)
    assert result.counts.requests <= len(result.sequences)
    assert len(set(seen)) > 20


def test_a_search_may_require_the_gate() -> None:
    search = search_of("best_first", monitor="gate", top_k=VOCABULARY)
    with pytest.raises(ServerUnsuitableError, match="has no entropy gate: it has no plugin"):
        run(1, search)
    with pytest.raises(ValueError, match="monitor is eye"):
        SearchConfig(monitor="eye")  # type: ignore[arg-type]


def test_more_tokens_than_the_gate_has_are_observed_by_chunks() -> None:
    server = ScriptedServer(mixed_distribution(1), allows_gate=True)
    search = search_of("best_first", top_k=129)
    assert run_method(search, endpoint_of(server)).monitor == "chunk"
    required = search_of("best_first", top_k=129, monitor="gate")
    with pytest.raises(ServerUnsuitableError, match="top_k is 129"):
        run_method(required, endpoint_of(server))


def test_entropies_of_reports_are_those_of_their_logprobs() -> None:
    drawn, recorder = Drawn(5, 0.6, 8), StepRecorder(stored_below=2.0)
    segment = grown(recorder, drawn.parts(recorder, 8))
    assert segment.steps is not None
    entropies = top_k_entropy(np.exp(segment.steps.logprobs.astype(float)))
    known = [segment.entropies[position] for position in segment.steps.positions.tolist()]
    assert known == pytest.approx(entropies.tolist(), abs=1e-5)
