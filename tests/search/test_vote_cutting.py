"""Votes whose sequences the scripted server ends below a floor of confidence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eager_sgl import (
    BetaRule,
    ConsensusShare,
    ModeTest,
    Probing,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    Vote,
)
from eager_sgl import Sequence as Generated
from eager_sgl.errors import ServerUnsuitableError
from eager_sgl.generate.executor import builder, flights
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.voting.cutting import Cutting, is_below
from eager_sgl.voting.votes import vote_totals, vote_winner
from eager_sgl.voting.weighing import by_confidence
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.interrupting import Interrupting
from tests.fakes.scripted import EOS, VOCABULARY, ScriptedServer, mixed_distribution, tempered
from tests.search.fits import agreement

SAMPLING = SamplingConfig(temperature=1.0, top_p=0.95, max_new_tokens=8)
M, WINDOW, FLOOR = 16, 3, 2.6
ERROR_PROBABILITY = 1e-5
FIXED = Cutting(window=WINDOW, fixed=FLOOR)
FIRST = Cutting(window=WINDOW, keep=0.5, warmup=4)


def last_tokens(sequences: Sequence[Generated]) -> list[Hashable | None]:
    return [sequence.token_ids[-2:] for sequence in sequences]


def vote_of(cutting: Cutting | None, **fields: Any) -> Vote:
    config = SearchConfig(max_sequences=M, sampling=SAMPLING, top_k=VOCABULARY)
    defaults: dict[str, Any] = {"answers": last_tokens, "rule": BetaRule(0.9)}
    return Vote(config, cutting=cutting, **defaults | fields)


def server_of(model: int, seed: int = 0, *, honours_seed: bool = False) -> ScriptedServer:
    distribution = mixed_distribution(model)
    server = ScriptedServer(distribution, allows_gate=True, honours_seed=honours_seed)
    server.restart(seed)
    return server


def run(cutting: Cutting | None, model: int, seed: int = 0, **fields: Any) -> PromptResult:
    vote = vote_of(cutting, seed=seed, **fields)
    return run_method(vote, endpoint_of(server_of(model, seed)))


def runs(cutting: Cutting, model: int, num_runs: int, **fields: Any) -> Iterator[PromptResult]:
    """Votes by seeds on a server that is probed once."""
    server = server_of(model)
    endpoint = endpoint_of(server)
    for seed in range(num_runs):
        server.restart(seed)
        yield run_method(vote_of(cutting, seed=seed, **fields), endpoint)


def true_confidences(model: int, token_ids: Sequence[int]) -> list[float]:
    return top_confidences(model, token_ids, VOCABULARY)


def top_confidences(model: int, token_ids: Sequence[int], top_k: int) -> list[float]:
    """Means over the most likely tokens of every step."""
    steps = [mixed_distribution(model)(tuple(token_ids[:n])) for n in range(len(token_ids))]
    return [float(-np.log(sorted(step)[-top_k:]).mean()) for step in steps]


def sample(model: int, rng: random.Random) -> tuple[int, ...]:
    tokens: list[int] = []
    while len(tokens) < SAMPLING.max_new_tokens and (not tokens or tokens[-1] != EOS):
        step = mixed_distribution(model)(tuple(tokens))
        weights = tempered(step, SAMPLING.temperature, SAMPLING.top_p)
        tokens += rng.choices(range(VOCABULARY), weights.tolist())
    return tuple(tokens)


def simulated(model: int, rng: random.Random) -> tuple[Hashable, int, int]:
    """The winner, the number of samples and that of cut ones, of samples drawn apart."""
    votes: list[Hashable | None] = []
    while len(votes) < M and not BetaRule(0.9)(votes):
        tokens = sample(model, rng)
        is_cut = is_below(true_confidences(model, tokens), WINDOW, FLOOR)
        votes.append(None if is_cut else tokens[-2:])
    return vote_winner(votes), len(votes), votes.count(None)


@pytest.mark.parametrize("shares", [True, False])
def test_votes_are_those_of_independent_samples_that_reach_the_floor(shares: bool) -> None:
    rng, num_runs, model = random.Random(1), 200, 3
    expected = Counter(simulated(model, rng) for _ in range(6 * num_runs))
    seen: Counter[tuple[Hashable, int, int]] = Counter()
    for result in runs(FIXED, model, num_runs, shares=shares):
        assert result.vote is not None
        seen[result.vote.answer, len(result.sequences), result.vote.num_cut] += 1
    assert any(num_cut for _, _, num_cut in seen)
    assert agreement(seen, expected) > ERROR_PROBABILITY


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(4))
def test_the_first_samples_are_whole_and_set_the_floor(model: int, shares: bool) -> None:
    for seed in range(2):
        result = run(FIRST, model, seed, shares=shares, rule=ModeTest())
        sequences, vote = result.sequences, result.vote
        assert vote is not None
        confidences = [true_confidences(model, s.token_ids) for s in sequences]
        for sequence, true in zip(sequences, confidences, strict=True):
            assert sequence.confidences == pytest.approx(true, abs=1e-5)
        assert all(sequence.finish_reason != "cut" for sequence in sequences[:4])
        floor = FIRST.floor([FIRST.lowest(true) for true in confidences[:4]])
        assert floor is not None
        below = [is_below(true, WINDOW, floor) for true in confidences]
        assert vote.num_cut == sum(below)
        for sequence, true in zip(sequences, confidences, strict=True):
            if sequence.finish_reason == "cut" and not shares:
                assert not is_below(true[:-1], WINDOW, floor), "it was cut late"
        votes = [a for a, cut in zip(last_tokens(sequences), below, strict=True) if not cut]
        assert vote.votes == Counter(votes)
        assert vote.cut_votes.keys() <= {
            answer for answer, cut in zip(last_tokens(sequences), below, strict=True) if cut
        }


def floors_asked(shares: bool) -> list[float | None]:
    """The floors of a vote's requests, in their order."""
    server = server_of(1)
    result = run_method(vote_of(FIRST, shares=shares, rule=ModeTest()), endpoint_of(server))
    assert len(result.sequences) > 4
    params = [body["sampling_params"] for body in server.requests]
    gates = [Gate.parse(p["custom_params"]) for p in params if "custom_params" in p]
    whole = [gate for gate in gates if gate is not None and "confidences" in gate.columns]
    return [gate.floor for gate in whole if gate.threshold is None]


@pytest.mark.parametrize("shares", [True, False])
def test_the_server_is_asked_to_cut_all_samples_but_the_first(shares: bool) -> None:
    """Samples on stored paths need no request, now and then all but the first."""
    num_floors = []
    for floors in (floors_asked(shares) for _ in range(5)):
        num_whole = floors.count(None)
        assert 1 <= num_whole <= 4
        assert floors[:num_whole] == [None] * num_whole
        num_floors.append(len(set(floors[num_whole:])))
    assert max(num_floors) == 1


def test_cut_samples_are_replaced_and_cost_the_tokens_that_they_have() -> None:
    server = server_of(1)
    result = run_method(vote_of(FIXED, shares=False), endpoint_of(server))
    assert result.vote is not None
    assert result.vote.num_cut > 0
    bodies = [body for body in server.requests if "stop_token_ids" in body["sampling_params"]]
    assert result.counts.generated == sum(len(body["output_ids"]) for body in bodies)
    discarded = result.counts.discarded - result.vote.num_left_tokens
    assert discarded <= 2 * result.vote.num_cut


def test_no_sample_is_cut_at_a_floor_that_all_reach() -> None:
    cut, whole = run(Cutting(window=2, fixed=0.0), 2, seed=3), run(None, 2, seed=3)
    assert [s.token_ids for s in cut.sequences] == [s.token_ids for s in whole.sequences]
    assert cut.vote is not None
    assert cut.vote.num_cut == 0
    assert cut.counts == whole.counts


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(3))
@pytest.mark.parametrize("top_p", [0.95, 1.0])
def test_requests_below_a_floor_know_the_confidences_before_them(
    model: int, shares: bool, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or interrupted, of segments and of branches, drawn tokens among them."""
    monkeypatch.setattr(flights, "MAX_FRUITLESS", 100)
    cutting = Cutting(window=WINDOW, fixed=1.0)
    vote = vote_of(cutting, shares=shares, rule=ModeTest(), ahead=2, seed=model)
    sampling = replace(SAMPLING, top_p=top_p)
    vote = replace(vote, config=replace(vote.config, sampling=sampling, top_k=3))
    server = Interrupting(mixed_distribution(model), allows_gate=True)
    server.restart(model)
    endpoint = endpoint_of(server)
    server.requests.clear()
    server.probability = 0.5
    run_method(vote, endpoint)
    num_known = 0
    for body in server.requests:
        gate = Gate.parse(body["sampling_params"].get("custom_params"))
        if gate is None or gate.floor is None:
            continue
        path = body["input_ids"][len(server.prompt) :]
        known = top_confidences(model, path, gate.top_k)[-(WINDOW - 1) :]
        assert gate.before == pytest.approx(known, abs=1e-5)
        num_known += len(known)
    assert num_known


@pytest.mark.parametrize("cutting", [FIXED, FIRST])
@pytest.mark.parametrize("model", range(4))
def test_seeded_votes_do_not_depend_on_when_tokens_arrive(
    cutting: Cutting, model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for interval in (1, 3, 16):
        monkeypatch.setattr(builder, "AWAITED_INTERVAL", interval)
        server = server_of(model, honours_seed=True)
        result = run_method(vote_of(cutting, seed=5, ahead=2), endpoint_of(server))
        results.append(([(s.token_ids, s.parent) for s in result.sequences], result.vote))
    assert results[0] == results[1] == results[2]


def test_cutting_needs_the_gate() -> None:
    server = ScriptedServer(mixed_distribution(0))
    with pytest.raises(ServerUnsuitableError, match="it has no plugin"):
        run_method(vote_of(FIXED), endpoint_of(server))
    with pytest.raises(ValueError, match="monitor is chunk"):
        Vote(SearchConfig(monitor="chunk"), answers=last_tokens, cutting=FIXED)


def test_some_samples_have_to_be_left_to_cut() -> None:
    with pytest.raises(ValueError, match=r"cutting.warmup is 16; it must be below max_sequences"):
        vote_of(Cutting(warmup=16))


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", [0, 1])
def test_sequences_are_cut_probed_and_weighed_at_once(
    model: int, shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "AWAITED_INTERVAL", 2)
    probing = Probing(text="</think>", interval=2, stable=2, max_answer_tokens=2)
    parts: dict[str, Any] = {"weigh": by_confidence("tail", 4), "probing": probing, "ahead": 1}
    method = vote_of(FIRST, shares=shares, rule=ConsensusShare(0.9, 6), seed=0, **parts)
    config = replace(method.config, sampling=replace(SAMPLING, max_new_tokens=30))
    server = DecodingServer(model, allows_gate=True)
    result = run_method(replace(method, config=config), endpoint_of(server))
    vote, sequences = result.vote, result.sequences
    assert vote is not None
    assert vote.num_probes > 0
    weights = by_confidence("tail", 4)(sequences)
    cut = FIRST.cut(sequences)
    cast = [0.0 if is_cut else weight for is_cut, weight in zip(cut, weights, strict=True)]
    assert vote.weights == pytest.approx(cast)
    answers = [None if c else a for a, c in zip(last_tokens(sequences), cut, strict=True)]
    assert vote.votes == pytest.approx(vote_totals(answers, cast))
    assert vote.num_cut == sum(cut)
    assert result.counts.discarded >= 0
