"""Method objects: limits, the structure of their trees, and arguments that they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eager_sgl import EagerInit, FullParallel, SamplingConfig
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.runs import config_of, run
from tests.fakes.scripted import EOS, ScriptedServer, mixed_distribution

MODELS = range(12)


@pytest.mark.parametrize("model", MODELS)
def test_no_limit_is_exceeded(model: int) -> None:
    result = run(ScriptedServer(mixed_distribution(model)), threshold=0.8)
    assert 1 <= len(result.sequences) <= 4
    assert result.saturated == (len(result.sequences) == 4)
    for sequence in result.sequences:
        assert 1 <= len(sequence.token_ids) <= 9
        stopped = sequence.token_ids[-1] == EOS
        assert sequence.finish_reason == ("stop" if stopped else "length")
        assert EOS not in sequence.token_ids[:-1]


@pytest.mark.parametrize("model", MODELS)
def test_counts_agree_with_the_server_and_the_tree(model: int) -> None:
    server = ScriptedServer(mixed_distribution(model))
    counts = (result := run(server)).counts
    generating = [r for r in server.requests if "logit_bias" not in r["sampling_params"]]
    assert counts.requests == len(generating)
    assert counts.generated == sum(len(r["output_ids"]) for r in generating)
    assert counts.prompt == sum(len(r["input_ids"]) for r in generating)
    assert counts.cached == sum(r["cached_tokens"] for r in generating)
    paths = [s.token_ids for s in result.sequences]
    assert counts.unique == len({p[:n] for p in paths for n in range(1, len(p) + 1)})
    assert counts.naive == sum(map(len, paths))
    assert counts.discarded >= 0


@pytest.mark.parametrize("model", MODELS)
def test_a_child_leaves_its_parent_at_the_branch(model: int) -> None:
    result = run(ScriptedServer(mixed_distribution(model)), threshold=0.8)
    for child in result.sequences[1:]:
        assert child.branch is not None
        assert child.parent is not None
        parent, at = result.sequences[child.parent], child.branch.position
        assert child.token_ids[:at] == parent.token_ids[:at]
        assert (parent.token_ids[at], child.token_ids[at]) == child.branch.token_ids
        assert child.branch.entropy >= 0.8


def test_full_parallel_shares_the_prompt_and_nothing_else(scripted: ScriptedServer) -> None:
    endpoint = endpoint_of(scripted)
    scripted.restart(seed=0)
    sampling = SamplingConfig(temperature=0.8, top_p=0.8, max_new_tokens=9)
    result = run_method(FullParallel(sampling, 6), endpoint, (9,))
    counts = result.counts
    assert len({s.token_ids for s in result.sequences}) > 1
    assert counts.generated == counts.unique == counts.naive
    assert (counts.requests, counts.prefilled) == (7, 1 + 6)
    assert result.branch_points == ()


def test_full_parallel_needs_a_sequence(scripted: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="max_sequences is 0"):
        run_method(FullParallel(SamplingConfig(), 0), endpoint_of(scripted), (9,))


@pytest.mark.parametrize("chunk_tokens", [1, 2, 4])
def test_sequences_end_where_the_context_does(chunk_tokens: int) -> None:
    server = ScriptedServer(mixed_distribution(42), prompt=(9,) * 30)
    profile = replace(endpoint_of(server).profile, context_length=30 + 4)
    endpoint = TokenEndpoint(TokenClient(server, profile))
    server.restart(seed=0)
    server.context_length = 30 + 4 + 6
    for method in (
        EagerInit(config_of(chunk_tokens=chunk_tokens)),
        FullParallel(config_of().sampling, 3),
    ):
        result = run_method(method, endpoint, server.prompt)
        lengths = [len(s.token_ids) for s in result.sequences if s.finish_reason == "length"]
        assert set(lengths) == {4}
