"""Deferred branches: where they lie, and sequences resumed from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eager_sgl import EagerInit, SamplingConfig, TokenCounts
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.results import partial_of
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, resume_method, run_method
from tests.fakes.runs import config_of, run
from tests.fakes.scripted import ScriptedServer

LONG = SamplingConfig(temperature=1.0, max_new_tokens=60)


def run_deferred(scripted: ScriptedServer, **arguments: Any) -> Any:
    endpoint = endpoint_of(scripted)
    scripted.restart(seed=0)
    config = config_of(threshold=0.8, max_sequences=2, deferred_threshold=0.4, **arguments)
    return endpoint, run_method(EagerInit(config), endpoint, (9,))


def test_deferred_branches_lie_on_the_sequences_and_their_token_is_untried(
    scripted: ScriptedServer,
) -> None:
    _, result = run_deferred(scripted)
    assert result.deferred
    entropies = [deferred.point.entropy for deferred in result.deferred]
    assert entropies == sorted(entropies, reverse=True)
    for deferred in result.deferred:
        taken = result.sequences[deferred.sequence].token_ids[deferred.point.position]
        assert taken == deferred.point.sampled
        assert deferred.point.token_ids[deferred.choice] != taken
    assert entropies[-1] >= 0.4


def test_deferred_branches_are_found_up_to_the_end_of_every_sequence(
    scripted: ScriptedServer,
) -> None:
    """Where nothing is kept, a prompt that has M sequences is no longer monitored."""
    _, keeping = run_deferred(scripted, chunk_tokens=1, reasoning_end=None)
    known = [h == h for s in keeping.sequences for h in s.entropies]
    plain = run(scripted, threshold=0.8, max_sequences=2, chunk_tokens=1, reasoning_end=None)
    assert keeping.saturated
    assert all(known)
    assert not all(h == h for s in plain.sequences for h in s.entropies)


def test_branches_below_the_threshold_are_listed_but_never_taken(scripted: ScriptedServer) -> None:
    endpoint = endpoint_of(scripted)
    greedy = SamplingConfig(temperature=0, max_new_tokens=9)
    plain = config_of(threshold=1.3, max_sequences=16, sampling=greedy)
    keeping = replace(plain, deferred_threshold=0.3)
    trees = [run_method(EagerInit(config), endpoint, (9,)) for config in (plain, keeping)]
    assert [s.token_ids for s in trees[0].sequences] == [s.token_ids for s in trees[1].sequences]
    assert not trees[1].saturated
    assert trees[1].deferred
    assert all(0.3 <= deferred.point.entropy < 1.3 for deferred in trees[1].deferred)
    state = resume_method(
        endpoint,
        (9,),
        result=trees[1],
        num_sequences=2,
        sampling=greedy,
        threshold=trees[1].deferred[0].point.entropy,
    )
    assert len(state.sequences) == 1


def test_resuming_opens_the_best_deferred_branches_on_cached_prefixes(
    scripted: ScriptedServer,
) -> None:
    endpoint, result = run_deferred(scripted)
    sampling = config_of().sampling
    scripted.requests.clear()
    state = resume_method(endpoint, (9,), result=result, num_sequences=3, sampling=sampling)
    extra = state
    assert len(extra.sequences) == min(3, len(result.deferred))
    for sequence, deferred in zip(extra.sequences, result.deferred, strict=False):
        assert sequence.branch is not None
        before = result.sequences[sequence.parent].token_ids[: sequence.branch.position]
        assert sequence.token_ids[: len(before)] == before
        assert sequence.token_ids[len(before)] == deferred.point.token_ids[deferred.choice]
        assert len(sequence.token_ids) <= 9
    generating = [r for r in scripted.requests if "logit_bias" not in r["sampling_params"]]
    assert extra.counts.prefilled == len(generating) == extra.counts.requests
    assert extra.counts.discarded == 0


@pytest.mark.parametrize("ending", ["max_tokens", "error"])
def test_a_partial_result_of_resuming_has_the_parents_of_the_earlier_one(ending: str) -> None:
    """There may be fewer new sequences than the earlier result has."""
    server = DecodingServer(1)
    endpoint = endpoint_of(server)
    config = config_of(
        threshold=0.9, deferred_threshold=0.4, max_sequences=6, reasoning_end=None, sampling=LONG
    )
    whole = run_method(EagerInit(config), endpoint, (9,))
    last = max(range(len(whole.deferred)), key=lambda i: whole.deferred[i].sequence)
    result = replace(whole, deferred=whole.deferred[last : last + 1])
    assert result.deferred[0].sequence >= 1

    def fail(decision: object, counts: TokenCounts) -> None:
        if ending == "error" and counts.generated > 3:
            raise RuntimeError("no progress")

    limits = PromptLimits(max_tokens=5 if ending == "max_tokens" else None, stream_interval=1)
    try:
        partial = resume_method(endpoint, (9,), result, 1, LONG, limits=limits, observers=[fail])
    except RuntimeError as error:
        found = partial_of(error)
        assert found is not None
        partial = found
    assert partial.stopped == ending
    (sequence,) = partial.sequences
    assert sequence.parent == result.deferred[0].sequence
    assert sequence.finish_reason == "abort"


def test_without_deferred_branches_there_is_nothing_to_resume(scripted: ScriptedServer) -> None:
    endpoint = endpoint_of(scripted)
    config = config_of(threshold=1.6, max_sequences=4)
    result = run_method(EagerInit(config), endpoint, (9,))
    assert result.deferred == ()
    state = resume_method(endpoint, (9,), result=result, num_sequences=3, sampling=config.sampling)
    assert state.sequences == ()


def test_a_deferred_branch_beyond_the_length_limit_is_refused(scripted: ScriptedServer) -> None:
    endpoint, result = run_deferred(scripted)
    latest = max(result.deferred, key=lambda deferred: deferred.point.position)
    position = latest.point.position
    assert position > 0
    result = replace(result, deferred=(latest,))
    at_limit = replace(config_of().sampling, max_new_tokens=position + 1)
    resumed = resume_method(endpoint, (9,), result, 1, at_limit)
    assert [len(sequence.token_ids) for sequence in resumed.sequences] == [position + 1]
    with pytest.raises(ValueError, match=f"at position {position}, .* at most {position} tokens"):
        resume_method(endpoint, (9,), result, 1, replace(at_limit, max_new_tokens=position))
