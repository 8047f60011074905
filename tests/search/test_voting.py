"""Samples until their vote is decided: no more than needed, and of the model's law."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from eager_sgl import PromptResult, SamplingConfig, SearchConfig
from eager_sgl.core import Sequence
from eager_sgl.search.votes import leading_votes, majority_confidence
from eager_sgl.search.voting import num_missing_votes
from eager_sgl.server.voting.method import Vote
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=12)


def first_token(sequences: Any) -> list[int | None]:
    return [sequence.token_ids[0] or None for sequence in sequences]


def vote(model: int, seed: int | None, most: int = 32, confidence: float = 0.95) -> PromptResult:
    server = ScriptedServer(mixed_distribution(model), allows_gate=model % 2 == 0)
    server.seed = 0 if seed is None else seed
    config = SearchConfig(max_sequences=most, top_k=5, sampling=SAMPLING)
    method = Vote(config, seed=seed, classes=first_token, confidence=confidence)
    return run_method(method, endpoint_of(server))


@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.999])
def test_the_missing_votes_are_the_fewest_that_decide(confidence: float) -> None:
    for leading in range(6):
        for second in range(leading + 1):
            missing = num_missing_votes(leading, second, confidence, 99)
            assert majority_confidence(leading + missing, second) > confidence
            if missing:
                assert majority_confidence(leading + missing - 1, second) <= confidence
    assert num_missing_votes(0, 0, 0.95, 3) == 3


def is_decided(sequences: Any) -> bool:
    return majority_confidence(*leading_votes(first_token(sequences))) > 0.95


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("model", range(12))
def test_a_vote_ends_when_it_is_decided_and_leaves_nothing_running(
    model: int, seed: int | None
) -> None:
    result = vote(model, seed)
    sequences: tuple[Sequence, ...] = result.sequences
    assert all(sequence.finish_reason in ("stop", "length") for sequence in sequences)
    assert is_decided(sequences) or len(sequences) == 32
    # Samples were missing before: whichever was last, the others had not decided the vote.
    others = (sequences[:i] + sequences[i + 1 :] for i in range(len(sequences)))
    assert not all(map(is_decided, others))
    assert result.counts.discarded == 0


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_vote_has_no_more_sequences_than_allowed(most: int) -> None:
    assert len(vote(3, None, most).sequences) == most


def test_a_seed_repeats_a_vote() -> None:
    first, second = (vote(4, 5).sequences for _ in range(2))
    assert [s.token_ids for s in first] == [s.token_ids for s in second]


def test_the_first_samples_of_votes_have_the_models_law() -> None:
    """All votes start four samples; their first tokens over 150 votes, to within 0.1."""
    counts: Counter[int] = Counter()
    for seed in range(150):
        counts.update(s.token_ids[0] for s in vote(7, seed, 4).sequences)
    law = mixed_distribution(7)(())
    total = counts.total()
    assert total == 600
    assert sum(abs(counts[token] / total - p) for token, p in enumerate(law)) / 2 < 0.1
