"""Voting on the tree of a scripted model: how many samples start, and what the vote is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from eager_sgl import (
    BetaRule,
    Ledger,
    ModeTest,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    TrieParallel,
    Vote,
)
from eager_sgl import Sequence as Generated
from eager_sgl.core import FinishReason, Generation, VoteOutcome
from eager_sgl.engine.protocol import Json
from eager_sgl.generate.executor import builder
from eager_sgl.schedule import sequences_of
from eager_sgl.tree import TokenTree
from eager_sgl.voting.votes import majority_confidence, vote_winner
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import (
    EOS,
    VOCABULARY,
    ScriptedServer,
    mixed_distribution,
    tempered,
)
from tests.fakes.scripted import first_tokens as first_tokens_of
from tests.search.fits import agreement

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
M = 24
ERROR_PROBABILITY = 1e-5


def first_tokens(sequences: Sequence[Generated]) -> list[Hashable | None]:
    return [sequence.token_ids[0] for sequence in sequences]


def same_answers(sequences: Sequence[Generated]) -> list[Hashable | None]:
    return ["same"] * len(sequences)


def vote_of(*, max_sequences: int = M, sampling: SamplingConfig = SAMPLING, **fields: Any) -> Vote:
    config = SearchConfig(max_sequences=max_sequences, sampling=sampling, top_k=VOCABULARY)
    return Vote(config, **{"answers": first_tokens} | fields)


def run(model: int, seed: int = 0, *, allows_gate: bool = True, **fields: Any) -> PromptResult:
    server = ScriptedServer(mixed_distribution(model), allows_gate=allows_gate)
    server.restart(seed)
    return run_method(vote_of(**{"seed": seed} | fields), endpoint_of(server))


def runs(model: int, num_runs: int, **fields: Any) -> Iterator[PromptResult]:
    """Votes by seeds on a server that is probed once."""
    server = ScriptedServer(mixed_distribution(model), allows_gate=True)
    endpoint = endpoint_of(server)
    for seed in range(num_runs):
        server.restart(seed)
        yield run_method(vote_of(seed=seed, **fields), endpoint)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(4))
def test_a_vote_ends_as_soon_as_its_rule_decides(model: int, shares: bool) -> None:
    for result in runs(model, 10, shares=shares):
        votes, rule = first_tokens(result.sequences), BetaRule()
        assert rule(votes) or len(votes) == M
        assert not any(rule(votes[:number]) for number in range(len(votes)))
        assert all(s.finish_reason in ("stop", "length") for s in result.sequences)
        assert result.vote is not None
        assert result.vote.answer == vote_winner(votes)
        assert result.vote.votes == Counter(votes)
        leading, second = (*sorted(Counter(votes).values(), reverse=True), 0)[:2]
        assert result.vote.confidence == majority_confidence(leading, second)


def simulated(model: int, rng: random.Random) -> tuple[Hashable, int]:
    """The winner and the number of votes of Adaptive-Consistency on independent draws."""
    first = tempered(mixed_distribution(model)(()), SAMPLING.temperature, SAMPLING.top_p)
    votes: list[int] = []
    while len(votes) < M and not BetaRule()(votes):
        votes += rng.choices(range(VOCABULARY), first.tolist())
    return vote_winner(votes), len(votes)


@pytest.mark.parametrize("shares", [True, False])
def test_votes_are_those_of_independent_samples(shares: bool) -> None:
    """The winner and the number of votes, which a bias towards samples that end early changes."""
    rng, num_runs = random.Random(1), 400
    expected = Counter(simulated(0, rng) for _ in range(4 * num_runs))
    results = runs(0, num_runs, shares=shares)
    seen = Counter((vote_winner(first_tokens(r.sequences)), len(r.sequences)) for r in results)
    assert agreement(seen, expected) > ERROR_PROBABILITY


def test_no_more_samples_start_than_can_decide() -> None:
    """All agree here: four samples by the Beta rule, ten by the test."""
    for rule, number in ((BetaRule(), 4), (ModeTest(), 10)):
        server = ScriptedServer(mixed_distribution(0))
        vote = vote_of(rule=rule, shares=False, answers=same_answers)
        result = run_method(vote, endpoint_of(server))
        assert len(result.sequences) == number
        assert sum(is_of_a_sample(request) for request in server.requests) == number


def test_prefixes_are_shared_and_nothing_is_drawn_twice() -> None:
    shared, alone = (run(1, shares=shares, rule=ModeTest()) for shares in (True, False))
    assert shared.counts.generated < shared.counts.naive
    assert alone.counts.unique == alone.counts.naive
    assert alone.monitor is None
    assert all(sequence.branch is None for sequence in alone.sequences)


@pytest.mark.parametrize("method", ["vote", "trie_parallel"])
@pytest.mark.parametrize("model", range(4))
def test_seeded_samples_do_not_depend_on_when_tokens_arrive(
    method: str, model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for allows_gate, interval in ((True, 1), (True, 3), (False, 16)):
        monkeypatch.setattr(builder, "AWAITED_INTERVAL", interval)
        server = ScriptedServer(
            mixed_distribution(model), allows_gate=allows_gate, honours_seed=True
        )
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=12)
        vote = vote_of(seed=5, sampling=sampling, rule=ModeTest(0.3))
        samples = vote if method == "vote" else TrieParallel(vote.config, seed=5)
        result = run_method(samples, endpoint_of(server))
        results.append([(s.token_ids, s.parent) for s in result.sequences])
    assert results[0] == results[1] == results[2]


LONG = SamplingConfig(temperature=1.0, max_new_tokens=60)


def is_of_a_sample(request: Json) -> bool:
    params = request["sampling_params"]
    return "stop_token_ids" in params and params["max_new_tokens"] > 0  # else it is a prefill


class UnevenServer(DecodingServer):
    """The first two samples end after three tokens, the others at their limit."""

    def answer(self, path: str, body: Json | None = None) -> Json:
        answer = super().answer(path, body)
        if path == "/generate" and sum(map(is_of_a_sample, self.requests)) in (1, 2):
            return first_tokens_of(answer, 3, {"type": "stop", "matched": EOS})
        return answer


def two_votes(votes: Sequence[Hashable | None]) -> bool:
    return len(votes) >= 2


def early(ahead: float) -> Vote:
    """A vote that two samples decide; twice `ahead` samples start."""
    fields: dict[str, Any] = {"answers": same_answers, "rule": two_votes, "shares": False}
    return vote_of(max_sequences=8, sampling=LONG, ahead=ahead, **fields)


def test_samples_that_ran_ahead_are_aborted_when_the_vote_is_decided() -> None:
    server = UnevenServer()
    result = run_method(early(ahead=2.5), endpoint_of(server))
    assert [len(sequence.token_ids) for sequence in result.sequences] == [3, 3]
    assert len(server.aborted) == 3
    assert not server.running
    assert result.counts.generated == server.num_decoded > 6
    assert result.counts.discarded == server.num_decoded - 6
    assert result.vote == VoteOutcome("same", {"same": 2}, majority_confidence(2, 0), 0)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("ahead", [0.0, 2.0])
def test_the_tokens_of_samples_that_were_left_are_counted(ahead: float, shares: bool) -> None:
    """Decoded tokens are on a sequence, or of samples that were left, or drawn in vain."""
    found = []
    for seed in range(10):
        server = ScriptedServer(mixed_distribution(seed), allows_gate=True, honours_seed=True)
        vote = vote_of(seed=seed, shares=shares, ahead=ahead, rule=BetaRule(0.8))
        result = run_method(vote, endpoint_of(server))
        assert result.vote is not None
        found.append(result.vote.num_left_tokens)
        assert 0 <= found[-1] <= result.counts.discarded
        if not shares:
            assert found[-1] == result.counts.discarded
    assert any(found) == (ahead > 0)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(4))
def test_a_vote_counts_the_same_samples_however_many_run(model: int, shares: bool) -> None:
    """Those that run ahead are left, and nothing that they have drawn changes the others."""
    most = 0
    for seed in range(6):
        results, numbers = [], []
        for ahead in (0.0, 1.0, 2.0, float(M)):
            server = ScriptedServer(mixed_distribution(model), allows_gate=True, honours_seed=True)
            vote = vote_of(seed=seed, shares=shares, ahead=ahead, rule=BetaRule(0.8))
            results.append(run_method(vote, endpoint_of(server)))
            numbers.append(sum(map(is_of_a_sample, server.requests)))
        first, *others = [[(s.token_ids, s.parent) for s in r.sequences] for r in results]
        assert all(other == first for other in others)
        assert all(r.vote == results[0].vote for r in results)
        most = max(most, numbers[-1] - numbers[0])
    assert most > 0, "some ran ahead"


@pytest.mark.parametrize("ahead", [-0.5, float("inf"), float("nan")])
def test_how_far_samples_run_ahead_is_a_number(ahead: float) -> None:
    with pytest.raises(ValueError, match=f"ahead is {ahead}; it must be a number from 0 to 1000"):
        vote_of(ahead=ahead)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_vote_ends_at_the_same_sample_whenever_answers_arrive(order: tuple[int, ...]) -> None:
    """Where the first sample was the last to end, all votes were counted at once."""
    lengths: list[int] = []

    def answers(sequences: Sequence[Generated]) -> list[Hashable | None]:
        lengths.append(len(sequences))
        return same_answers(sequences)

    tree = TokenTree((9,), max_new_tokens=2)
    vote = replace(early(ahead=2), answers=answers)
    schedule = vote.schedule(tree, M, lambda leaves: sequences_of(tuple(leaves)))
    decision = schedule.replay(tree)
    for index in order:
        for reason in REASONS:
            if decision.num_alive:
                tree.append(tree.segments[index], part_of_answer(reason), 2)
                decision = schedule.replay(tree)
    assert [leaf.index for leaf in decision.leaves] == [0, 1]
    assert lengths == [1, 2]


REASONS: tuple[FinishReason | None, ...] = (None, "stop")


def part_of_answer(reason: FinishReason | None) -> Generation:
    """One token, of a request that has ended for a reason, or that was interrupted."""
    interrupted = None if reason else "its stream ended"
    return Generation((1,), reason, prompt_tokens=1, cached_tokens=0, interrupted=interrupted)


def test_a_ledger_pays_for_the_samples_that_voted() -> None:
    """As a run does that is continued from its records."""
    ledger, server = Ledger(M), UnevenServer()
    with ledger.reserve(M) as account:
        result = run_method(early(ahead=2.5), endpoint_of(server), account=account)
    assert len(result.sequences) == 2
    assert account.spent == 2
    assert ledger.free == M - 2


def test_a_rule_of_the_user_decides() -> None:
    result = run(0, rule=lambda votes: len(votes) == 3)
    assert len(result.sequences) == 3
