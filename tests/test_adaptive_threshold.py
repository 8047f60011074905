"""An adaptive θ: a quantile of the entropies of all prompts, constant for a prompt."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl import (
    AdaptiveThreshold,
    BestFirst,
    EagerConfig,
    EagerInit,
    PromptResult,
    SamplingConfig,
    SearchConfig,
)
from eager_sgl.adaptive_threshold import BIN, NUM_CHAINS
from eager_sgl.errors import ServerUnsuitableError
from eager_sgl.plugin.vocabulary import Gate
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

entropy = st.floats(0, math.log(20))
CONFIG = EagerConfig(
    threshold=0.3,
    max_sequences=8,
    top_k=VOCABULARY,
    chunk_tokens=4,
    reasoning_end=None,
    sampling=SamplingConfig(temperature=0.8, top_p=0.95, max_new_tokens=20),
)


@given(st.lists(entropy, min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_theta_is_the_quantile_of_all_steps_up_to_the_bin(entropies: Any, quantile: float) -> None:
    adaptive_threshold = AdaptiveThreshold(quantile, lowest=1e-9)
    half = len(entropies) // 2
    adaptive_threshold.observe([*entropies[:half], math.nan])
    adaptive_threshold.observe(entropies[half:])
    exact = float(np.quantile(entropies, quantile, method="inverted_cdf"))
    assert adaptive_threshold.num_steps == len(entropies)
    assert exact - BIN - 1e-9 <= adaptive_threshold.threshold(8) <= exact + 1e-9


@given(st.integers(2, 64), st.integers(20, 20_000))
def test_without_a_quantile_the_target_is_half_of_m(max_sequences: Any, length: Any) -> None:
    adaptive_threshold = AdaptiveThreshold()
    assert adaptive_threshold.quantile(max_sequences) == 1
    adaptive_threshold.observe_length(length - 10)
    adaptive_threshold.observe_length(length + 10)
    met = (1 - adaptive_threshold.quantile(max_sequences)) * length
    assert math.exp(met) == pytest.approx(max(max_sequences / 2, 2))


def test_counts_of_many_threads_add_up() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.uniform(0, 3, size=50).tolist() for _ in range(200)]
    first, second = AdaptiveThreshold(0.9), AdaptiveThreshold(0.9)
    for part in parts:
        first.observe(part)
        first.observe_length(len(part))

    def show(part: Any) -> Any:
        for value in part:
            second.observe([value])
        second.observe_length(len(part))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(show, parts))
    assert (second.num_steps, second.num_chains) == (10_000, 200)
    assert second.threshold(8) == first.threshold(8)


def draw(
    server: ScriptedServer,
    adaptive_threshold: AdaptiveThreshold,
    seed: int,
    config: EagerConfig = CONFIG,
) -> Any:
    server.restart(seed)
    endpoint = endpoint_of(server)
    return run_method(EagerInit(config, adaptive_threshold), endpoint, (9,))


@pytest.fixture(params=["gate", "chunk"])
def server(request: pytest.FixtureRequest) -> ScriptedServer:
    """With the gate's plugin, and without."""
    return ScriptedServer(mixed_distribution(5), allows_gate=request.param == "gate")


def test_theta_is_constant_for_a_prompt_and_all_branches_reach_it(server: ScriptedServer) -> None:
    adaptive_threshold = AdaptiveThreshold()
    results = [draw(server, adaptive_threshold, seed) for seed in range(2 * NUM_CHAINS)]
    assert {result.monitor for result in results} == {"gate" if server.allows_gate else "chunk"}
    for result in results:
        for point in result.branch_points:
            assert point.entropy >= result.entropy_histogram.threshold >= adaptive_threshold.lowest
    assert sum(len(result.sequences) > 1 for result in results) > 3
    assert len({result.entropy_histogram.threshold for result in results}) > 2


def test_the_first_prompts_branch_after_their_first_chain_and_later_ones_at_once(
    server: ScriptedServer,
) -> None:
    adaptive_threshold = AdaptiveThreshold()
    first = draw(server, adaptive_threshold, 0)
    known = [entropy for entropy in first.sequences[0].entropies if entropy == entropy]
    lowest = min(point.entropy for point in first.branch_points)
    assert first.entropy_histogram.threshold <= lowest
    assert first.entropy_histogram.length > 1
    assert known
    for _ in range(NUM_CHAINS):
        adaptive_threshold.observe_length(20)
    threshold = adaptive_threshold.threshold(CONFIG.max_sequences)
    assert draw(server, adaptive_threshold, 1).entropy_histogram.threshold == threshold


def test_the_first_chains_are_counted_to_their_ends_whatever_the_patience(
    server: ScriptedServer,
) -> None:
    """θ is a quantile of whole chains, and may let them branch anywhere."""
    config, adaptive_threshold = replace(CONFIG, patience=2), AdaptiveThreshold()
    lengths = []
    for seed in range(NUM_CHAINS):
        histogram = draw(server, adaptive_threshold, seed, config).entropy_histogram
        assert sum(number for _, number in histogram.counts) >= histogram.length
        lengths.append(histogram.length)
    assert max(lengths) > config.patience + config.chunk_tokens


@pytest.mark.parametrize("lowest", [0.05, 0.7])
def test_all_branches_reach_the_lowest_theta(server: ScriptedServer, lowest: float) -> None:
    """The θ of the configuration is ignored."""
    adaptive_threshold = AdaptiveThreshold(0.01, lowest=lowest)
    adaptive_threshold.observe([0.0])
    result = draw(server, adaptive_threshold, 0)
    assert result.entropy_histogram.threshold == adaptive_threshold.threshold(8) == lowest
    assert len(result.sequences) > 1
    assert all(point.entropy >= lowest for point in result.branch_points)


def test_stored_histograms_restore_theta(server: ScriptedServer) -> None:
    adaptive_threshold = AdaptiveThreshold()
    results = [draw(server, adaptive_threshold, seed) for seed in range(6)]
    again = AdaptiveThreshold()
    for result in reversed(results):
        again.restore(result.entropy_histogram)
    assert (again.num_steps, again.num_chains) == (
        adaptive_threshold.num_steps,
        adaptive_threshold.num_chains,
    )
    assert again.quantile(8) == pytest.approx(adaptive_threshold.quantile(8))
    assert again.threshold(8) == adaptive_threshold.threshold(8)


def test_every_step_is_counted_once(server: ScriptedServer) -> None:
    """Shared steps count for the segment that drew them, discarded ones too."""
    adaptive_threshold = AdaptiveThreshold(0.5)
    result = draw(server, adaptive_threshold, 3)
    counted = sum(number for _, number in result.entropy_histogram.counts)
    known = {
        sequence.token_ids[:end]
        for sequence in result.sequences
        for end, value in enumerate(sequence.entropies)
        if value == value
    }
    assert counted == adaptive_threshold.num_steps
    assert len(known) <= counted <= len(known) + result.counts.discarded


@pytest.mark.parametrize("quantile", [0, 1, -0.5])
def test_a_wrong_quantile_names_the_value(quantile: float) -> None:
    with pytest.raises(ValueError, match=f"quantile is {quantile}"):
        AdaptiveThreshold(quantile)


def test_a_wrong_lowest_names_the_value() -> None:
    with pytest.raises(ValueError, match=r"lowest is 0; it must be above 0 nats"):
        AdaptiveThreshold(lowest=0)


def shape(result: PromptResult) -> list[tuple[Any, ...]]:
    return [
        (s.token_ids, s.parent, s.branch and (s.branch.position, s.branch.token_ids))
        for s in result.sequences
    ]


@pytest.mark.parametrize("num_known", [0, NUM_CHAINS])
@pytest.mark.parametrize("model", range(12))
def test_gate_and_chunks_grow_the_same_tree(model: int, num_known: int) -> None:
    """At τ = 0, by a θ that is known when the prompt starts, or after its first chain."""
    config = replace(CONFIG, sampling=SamplingConfig(temperature=0.0, max_new_tokens=20))
    found = []
    for allows_gate in (True, False):
        server = ScriptedServer(mixed_distribution(model), allows_gate=allows_gate)
        adaptive_threshold = AdaptiveThreshold(0.6)
        for _ in range(num_known):
            adaptive_threshold.observe([0.1, 0.4, 0.7, 1.1])
            adaptive_threshold.observe_length(20)
        found.append(draw(server, adaptive_threshold, 0, config))
    gate, chunk = found
    assert (gate.monitor, chunk.monitor) == ("gate", "chunk")
    assert gate.entropy_histogram.threshold == chunk.entropy_histogram.threshold
    assert shape(gate) == shape(chunk)
    for ours, theirs in zip(gate.sequences, chunk.sequences, strict=True):
        pairs = zip(ours.entropies, theirs.entropies, strict=True)
        known = [pair for pair in pairs if not any(map(math.isnan, pair))]
        assert known
        assert all(entropy == pytest.approx(other, abs=1e-5) for entropy, other in known)


def gates_of(server: ScriptedServer) -> list[Gate]:
    """The gates of the requests since the server's start; θ = 0 is the probe's."""
    params = [r["sampling_params"].get("custom_params") for r in server.requests]
    return [gate for gate in map(Gate.parse, params) if gate is not None and gate.threshold]


def test_the_gate_reports_every_entropy_and_steps_from_the_theta_of_the_prompt() -> None:
    server = ScriptedServer(mixed_distribution(5), allows_gate=True)
    adaptive_threshold = AdaptiveThreshold(0.6)
    for seed in range(NUM_CHAINS + 1):
        threshold = draw(server, adaptive_threshold, seed).entropy_histogram.threshold
        gates = gates_of(server)
        assert gates
        assert all(gate.columns == ("entropies",) for gate in gates)
        is_known = seed >= NUM_CHAINS
        first = threshold if is_known else adaptive_threshold.lowest
        assert {gate.threshold for gate in gates} <= {first, threshold}
        assert first in {gate.threshold for gate in gates}


def test_a_pickle_serves_no_adaptive_theta() -> None:
    """It reports no entropies below θ, so that chunks are observed."""
    server = ScriptedServer(mixed_distribution(5), allows_pickle=True)
    endpoint = endpoint_of(server, gate="pickle")
    assert run_method(EagerInit(CONFIG), endpoint).monitor == "gate"
    assert run_method(EagerInit(CONFIG, AdaptiveThreshold()), endpoint).monitor == "chunk"
    with pytest.raises(ServerUnsuitableError, match="an adaptive θ need the plugin"):
        run_method(EagerInit(replace(CONFIG, monitor="gate"), AdaptiveThreshold()), endpoint)


def test_searches_have_no_adaptive_theta() -> None:
    with pytest.raises(TypeError, match="adaptive_threshold"):
        BestFirst(SearchConfig(), adaptive_threshold=AdaptiveThreshold())  # type: ignore[call-arg]
