"""Votes whose samples end once their probability is too small to count."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from eager_sgl import (
    BetaRule,
    ConsensusShare,
    Cutting,
    Probing,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    Vote,
)
from eager_sgl import Sequence as Generated
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.results import partial_of
from eager_sgl.voting.deciding import ByCounts, Undecided
from eager_sgl.voting.outweighing import find_outweighed, lowest_logprob
from eager_sgl.voting.votes import vote_weights
from eager_sgl.voting.weighing import by_confidence, by_probability
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

M, SHARE = 16, 0.3
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=40)
COLUMNS = ("raw_logprobs",)


def second_tokens(sequences: Sequence[Generated]) -> list[Hashable | None]:
    return [s.token_ids[1] if len(s.token_ids) > 1 else None for s in sequences]


def vote_of(seed: int = 0, **fields: Any) -> Vote:
    config = SearchConfig(max_sequences=M, sampling=SAMPLING, top_k=VOCABULARY)
    parts: dict[str, Any] = {
        "rule": ConsensusShare(0.9, 4),
        "weigh": by_probability,
        "outweighed": SHARE,
    }
    return Vote(config, **parts | {"answers": second_tokens} | fields, seed=seed)


def run(model: int, **fields: Any) -> PromptResult:
    server = ScriptedServer(mixed_distribution(model), allows_gate=True, honours_seed=True)
    if not fields.get("shares", True):
        fields["columns"] = COLUMNS
    return run_method(vote_of(**fields), endpoint_of(server))


def test_a_sample_is_outweighed_where_its_weight_is_below_the_share_of_the_strongest() -> None:
    for highest in (-0.5, -9.0, -30.0):
        lowest = lowest_logprob(highest, SHARE)
        assert vote_weights([highest, lowest])[1] == pytest.approx(SHARE)
    logprobs = [-3.0, -20.0, -1.0, -3.0, float("nan"), -2.0]
    is_out = [False, True, False, True, False, False]
    assert find_outweighed(logprobs, "abcdef", SHARE) == (is_out, lowest_logprob(-1.0, SHARE))
    assert find_outweighed(logprobs, [None] * 6, SHARE) == ([False] * 6, -math.inf), "none votes"
    assert find_outweighed(logprobs, "abcdef", 0) == ([False] * 6, -math.inf)
    assert find_outweighed([], [], SHARE) == ([], -math.inf)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(4))
def test_outweighed_samples_end_early_and_weigh_nothing(model: int, shares: bool) -> None:
    num_cut = 0
    for seed in range(4):
        result = run(model, seed=seed, shares=shares)
        logprobs = [s.raw_logprob or 0.0 for s in result.sequences]
        is_out, _ = find_outweighed(logprobs, second_tokens(result.sequences), SHARE)
        cut = [s.finish_reason == "cut" for s in result.sequences]
        assert all(out for out, is_cut in zip(is_out, cut, strict=True) if is_cut)
        assert result.vote is not None
        assert all(w == 0 for w, out in zip(result.vote.weights, is_out, strict=True) if out)
        assert result.vote.num_cut == sum(is_out)
        num_cut += sum(cut)
    assert num_cut > 0 or not shares  # whose tokens may all be there at once


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(4))
def test_a_vote_ends_at_the_same_sample_however_many_run(model: int, shares: bool) -> None:
    """Where a sample ends depends on when tokens arrive; whether it is outweighed does not."""
    for seed in range(3):
        found = []
        for ahead in (0.0, 1.0, float(M)):
            result = run(model, seed=seed, shares=shares, ahead=ahead)
            assert result.vote is not None
            found.append((len(result.sequences), result.vote))
        assert found[0] == found[1] == found[2]


def decoding(model: int) -> DecodingServer:
    """A server whose answers come in parts, and end after 25 tokens on average."""
    server, mixed = DecodingServer(allows_gate=True), mixed_distribution(model)

    def distribution(path: tuple[int, ...]) -> tuple[float, ...]:
        rest = mixed(path)[1:]
        return (0.04, *(0.96 * p / sum(rest) for p in rest))

    server.distribution = distribution
    return server


def long_vote_of(**fields: Any) -> Vote:
    vote = vote_of(**{"ahead": M} | fields)
    sampling = replace(SAMPLING, max_new_tokens=200)
    return replace(vote, config=replace(vote.config, sampling=sampling))


@pytest.mark.parametrize("shares", [True, False])
def test_running_samples_end(shares: bool) -> None:
    fields: dict[str, Any] = {} if shares else {"shares": False, "columns": COLUMNS}
    num_cut = 0
    for model in range(4):
        server = decoding(model)
        result = run_method(long_vote_of(**fields), endpoint_of(server))
        num_cut += sum(s.finish_reason == "cut" for s in result.sequences)
        assert not server.running
    assert num_cut > 0


@pytest.mark.parametrize("max_tokens", range(20, 300, 20))
def test_what_exists_is_kept_where_a_limit_ends_the_vote(max_tokens: int) -> None:
    """Also of samples that have just been outweighed, and whose requests run."""
    limits = PromptLimits(max_tokens=max_tokens)
    result = run_method(long_vote_of(), endpoint_of(decoding(1)), limits=limits)
    assert result.stopped in (None, "max_tokens")
    assert result.sequences
    assert result.counts.discarded >= 0


@pytest.mark.parametrize("number", range(1, 4))
def test_what_exists_is_kept_where_answers_fail(number: int) -> None:
    def answers(sequences: Sequence[Generated]) -> list[Hashable | None]:
        if len(sequences) > number:
            raise ValueError("no answer")
        return second_tokens(sequences)

    with pytest.raises(ValueError, match="no answer") as caught:
        run_method(long_vote_of(answers=answers), endpoint_of(decoding(0)))
    partial = partial_of(caught.value)
    assert partial is not None
    assert len(partial.sequences) > number


def test_samples_that_are_not_outweighed_are_those_of_a_vote_without_the_part() -> None:
    for seed in range(4):
        with_part, without = (run(1, seed=seed, outweighed=share) for share in (SHARE, 0.0))
        pairs = zip(with_part.sequences, without.sequences, strict=False)
        for ended, whole in pairs:
            assert whole.token_ids[: len(ended.token_ids)] == ended.token_ids
            assert ended.finish_reason == "cut" or ended.token_ids == whole.token_ids
        assert with_part.counts.generated <= without.counts.generated


@pytest.mark.parametrize(
    "fields",
    [
        {"weigh": None, "rule": BetaRule()},
        {"weigh": by_confidence("mean"), "columns": ("confidences",)},
        {"rule": ByCounts(BetaRule())},
        {"cutting": Cutting(window=2, fixed=1.0)},
        {"probing": Probing(text="so: ")},
    ],
)
def test_a_part_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="outweighed is 0.3; it needs weights by probability"):
        vote_of(**fields)


def test_a_vote_that_is_never_decided_ends_outweighed_samples() -> None:
    result = run(1, rule=Undecided())
    assert len(result.sequences) == M
    assert result.vote is not None
    assert result.vote.num_cut > 0


def test_the_share_is_below_one() -> None:
    with pytest.raises(ValueError, match=r"outweighed is 1; it must be a share in \[0, 1\)"):
        vote_of(outweighed=1)
