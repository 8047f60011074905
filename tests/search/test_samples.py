"""Samples through a stored tree draw anew on every segment that they enter."""

from __future__ import annotations

from collections import Counter

import pytest

from eager_sgl import SamplingConfig, SearchConfig, TrieParallel
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import EOS, VOCABULARY, ScriptedServer

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
