"""Gate and chunks give the same trees and distributions, on the real runtime."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import ks_2samp, ttest_rel

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    PromptResult,
    SamplingConfig,
    Search,
    SearchConfig,
    TokenCounts,
    TokenEndpoint,
    TrieParallel,
    WithoutReplacement,
)
from evals.tasks import Sample, find_task
from tests.fakes.endpoint import run_method, run_together
from tests.fakes.searches import search_of

pytestmark = pytest.mark.integration

TASK = find_task("countdown")
SAMPLES = TASK.load(48, None, 1)
NUM_REPEATS = 2
JOBS = [sample for sample in SAMPLES for _ in range(NUM_REPEATS)]
MONITORS: tuple[Literal["gate", "chunk"], ...] = ("gate", "chunk")
ERROR_PROBABILITY = 1e-6  # of each of three comparisons failing although nothing differs


def config_of(monitor: Literal["gate", "chunk"], **options: Any) -> EagerConfig:
    sampling = SamplingConfig(max_new_tokens=256, **options)
    return EagerConfig(threshold=0.7, max_sequences=8, monitor=monitor, sampling=sampling)


def run(
    endpoint: TokenEndpoint, sample: Sample, monitor: Literal["gate", "chunk"], **options: Any
) -> Any:
    result = run_method(EagerInit(config_of(monitor, **options)), endpoint, sample.prompt)
    assert result.monitor == monitor
    return result


def test_the_embedded_runtime_has_the_plugin(endpoint: TokenEndpoint) -> None:
    assert (endpoint.profile.gate, endpoint.profile.no_gate) == ("plugin", None)
    assert endpoint.profile.gate_honours_seed


SEARCHES = ("best_first", "trie_parallel", "swor")


def searched(endpoint: TokenEndpoint, order: str, monitor: str, **options: Any) -> Any:
    sampling = SamplingConfig(max_new_tokens=256, **options)
    search = search_of(order, max_sequences=6, monitor=monitor, sampling=sampling)
    return run_together(search, endpoint, [sample.prompt for sample in SAMPLES[:3]])


@pytest.mark.parametrize("order", SEARCHES)
def test_greedy_searches_are_the_same(endpoint: TokenEndpoint, order: str) -> None:
    gate, chunk = (
        searched(endpoint, order, monitor, temperature=0.0) for monitor in ("gate", "chunk")
    )
    for ours, theirs in zip(gate, chunk, strict=True):
        assert (ours.monitor, theirs.monitor) == ("gate", "chunk")
        assert ours.counts.generated == theirs.counts.generated
        assert ours.inexact_steps == theirs.inexact_steps
        for sequence, expected in zip(ours.sequences, theirs.sequences, strict=True):
            assert (sequence.token_ids, sequence.parent) == (expected.token_ids, expected.parent)
            assert sequence.raw_logprob == pytest.approx(expected.raw_logprob, abs=1e-2)
            for name in ("logprobs", "entropies"):
                values = getattr(sequence, name), getattr(expected, name)
                np.testing.assert_allclose(*values, atol=1e-2)


@pytest.mark.parametrize("kind", [BestFirst, TrieParallel, WithoutReplacement])
def test_a_seed_repeats_a_search_by_the_gate(endpoint: TokenEndpoint, kind: type[Search]) -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        config = SearchConfig(max_sequences=4, sampling=SamplingConfig(max_new_tokens=96))
        search = kind(config, seed=seed)
        results = run_together(search, endpoint, [sample.prompt for sample in SAMPLES[:3]])
        return [sequence.token_ids for result in results for sequence in result.sequences]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.fixture(scope="module")
def greedy(endpoint: TokenEndpoint) -> dict[tuple[str, str], PromptResult]:
    """Greedy trees by prompt and monitor, which have grown at the same time."""
    with ThreadPoolExecutor(16) as pool:
        growing = {
            (sample.id, monitor): pool.submit(run, endpoint, sample, monitor, temperature=0.0)
            for sample in SAMPLES[:8]
            for monitor in MONITORS
        }
    return {key: future.result() for key, future in growing.items()}


@pytest.mark.parametrize("name", [sample.id for sample in SAMPLES[:8]])
def test_greedy_trees_are_the_same(greedy: dict[tuple[str, str], PromptResult], name: str) -> None:
    gate, chunk = greedy[name, "gate"], greedy[name, "chunk"]
    assert [(s.token_ids, s.parent) for s in gate.sequences] == [
        (s.token_ids, s.parent) for s in chunk.sequences
    ]
    for ours, theirs in zip(gate.branch_points, chunk.branch_points, strict=True):
        assert (ours.position, ours.token_ids) == (theirs.position, theirs.token_ids)
        assert ours.entropy == pytest.approx(theirs.entropy, abs=1e-3)
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-3)
        assert np.exp(ours.logprobs) == pytest.approx(ours.probabilities, abs=1e-3)


def test_under_the_gate_a_sequence_is_about_one_request_and_little_is_discarded(
    endpoint: TokenEndpoint,
) -> None:
    """A segment that no sequence holds is aborted as soon as the client knows."""
    method = EagerInit(config_of("gate"))
    results = run_together(method, endpoint, [sample.prompt for sample in SAMPLES[:8]])
    counts = sum((result.counts for result in results), TokenCounts())
    assert counts.discarded < 0.1 * counts.generated
    assert counts.requests < 1.5 * sum(len(result.sequences) for result in results)


def measured(results: Sequence[PromptResult]) -> Any:
    """Per prompt: sequences and pass; and the positions of all branches."""
    sequences = np.array([len(result.sequences) for result in results], float)
    passed = np.array(
        [
            np.mean([TASK.score(sample, s.final_text).correct for s in result.sequences])
            for sample, result in zip(JOBS, results, strict=True)
        ]
    )
    positions = [point.position for result in results for point in result.branch_points]
    per_prompt = (values.reshape(-1, NUM_REPEATS).mean(1) for values in (sequences, passed))
    return (*per_prompt, positions)


def test_sequences_positions_and_passes_are_the_same_in_distribution(
    endpoint: TokenEndpoint,
) -> None:
    """Paired t-tests over prompts, and Kolmogorov-Smirnov on the positions of branches.

    48 trees of both monitors grow at a time: a step of the server costs nearly the same for a
    larger batch.
    """
    with ThreadPoolExecutor(48) as pool:
        growing = [[pool.submit(run, endpoint, s, monitor) for monitor in MONITORS] for s in JOBS]
    gate, chunk = (measured([f.result() for f in trees]) for trees in zip(*growing, strict=True))
    assert ttest_rel(gate[0], chunk[0]).pvalue > ERROR_PROBABILITY
    assert ttest_rel(gate[1], chunk[1]).pvalue > ERROR_PROBABILITY
    assert ks_2samp(gate[2], chunk[2]).pvalue > ERROR_PROBABILITY
    assert len(gate[2]) > 100
    assert gate[1].mean() > 0.3
