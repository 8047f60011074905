"""Samples through a stored tree: they draw anew on every segment, and wait for few of them."""

from __future__ import annotations

from collections import Counter

import pytest

from eager_sgl import BestFirst, SamplingConfig, SearchConfig, TrieParallel
from eager_sgl.search.priorities import EarlyPeaks
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import EOS, VOCABULARY, ScriptedServer, mixed_distribution

NUM_SAMPLES = 64
LEFT, RIGHT = 2, 3


def two_coins(path: tuple[int, ...]) -> tuple[float, ...]:
    """Two tokens that are as likely as each other, then the end."""
    weights = [1e-12] * VOCABULARY
    for token in (LEFT, RIGHT) if len(path) < 2 else (EOS,):
        weights[token] = 1.0
    return tuple(weight / sum(weights) for weight in weights)


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_leaves_a_segment_whatever_made_it_leave_the_one_before(seed: int) -> None:
    """A number that was above 1/2 at the root would leave at the child's first step, always.

    The child's continuation, which the server drew first, would then be sampled once.
    """
    config = SearchConfig(
        max_sequences=NUM_SAMPLES,
        top_k=VOCABULARY,
        reasoning_end=None,
        sampling=SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=5),
    )
    result = run_method(TrieParallel(config, seed=seed), endpoint_of(ScriptedServer(two_coins)))
    paths = Counter(sequence.token_ids[:2] for sequence in result.sequences)
    assert set(paths) == {(a, b) for a in (LEFT, RIGHT) for b in (LEFT, RIGHT)}
    assert min(paths.values()) > NUM_SAMPLES / 16


SEARCH = SearchConfig(
    max_sequences=12,
    top_k=VOCABULARY,
    reasoning_end=None,
    sampling=SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=40),
)


@pytest.mark.parametrize("method", [BestFirst, TrieParallel])
@pytest.mark.parametrize("model", range(4))
def test_a_search_in_the_loop_makes_the_tree_of_one_in_a_thread(
    method: type[BestFirst | TrieParallel], model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Untried tokens that end sequences are asked about afterwards in the loop."""
    results = []
    for in_thread in (False, True):
        monkeypatch.setattr(method, "decides_in_thread", in_thread)
        server = ScriptedServer(mixed_distribution(model), allows_gate=True, honours_seed=True)
        result = run_method(method(SEARCH, seed=1), endpoint_of(server))
        results.append([(s.token_ids, s.finish_reason, s.parent) for s in result.sequences])
    assert results[0] == results[1]
    assert all(EOS not in token_ids[:-1] for token_ids, *_ in results[0])


def never(tree: object, sequences: object) -> bool:
    return False


def test_functions_of_the_users_and_long_computations_leave_the_loop() -> None:
    long = SearchConfig(sampling=SamplingConfig(max_new_tokens=32_768))
    in_loop = [BestFirst(SEARCH), TrieParallel(SEARCH), TrieParallel(long)]
    in_thread = [
        BestFirst(SEARCH, stop=never),
        TrieParallel(SEARCH, stop=never),
        BestFirst(SEARCH, priority=EarlyPeaks()),
        BestFirst(SEARCH, priority="novel_early_peaks"),
        BestFirst(long),
    ]
    assert not any(method.decides_in_thread for method in in_loop)
    assert all(method.decides_in_thread for method in in_thread)


def test_parts_are_requested_of_segments_on_which_samples_wait() -> None:
    """Every sample leaves a segment for a known token as soon as it has arrived."""
    server = ScriptedServer(mixed_distribution(2), allows_gate=True)
    run_method(TrieParallel(SEARCH, seed=0), endpoint_of(server))
    requests = [r["sampling_params"] for r in server.requests]
    streamed = ["stream_interval" in p for p in requests if "stop_token_ids" in p]
    assert any(streamed)
    assert not all(streamed)
