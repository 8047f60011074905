"""Votes of weights, and bids for the samples of a vote, on the tree of a scripted model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from eager_sgl import (
    BetaRule,
    ConsensusShare,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    TokenLedger,
    TokenPrice,
    Vote,
    VoteUncertainty,
)
from eager_sgl import Sequence as Generated
from eager_sgl.budget.bidding import Bidding
from eager_sgl.errors import PlugInError
from eager_sgl.voting.votes import vote_totals, vote_winner
from eager_sgl.voting.weighing import Weigh, by_confidence, by_count, by_probability, by_score
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
M = 16


def last_tokens(sequences: Sequence[Generated]) -> list[Hashable | None]:
    return [sequence.token_ids[-1] for sequence in sequences]


def score(sequence: Generated) -> float:
    return float(sequence.token_ids[0])


def run(model: int, seed: int = 0, **fields: Any) -> PromptResult:
    server = ScriptedServer(mixed_distribution(model), allows_gate=True)
    server.restart(seed)
    config = SearchConfig(max_sequences=M, sampling=SAMPLING, top_k=VOCABULARY)
    vote = Vote(config, seed=seed, answers=last_tokens, **fields)
    return run_method(vote, endpoint_of(server))


WEIGHTS: dict[str, tuple[Weigh, dict[str, Any]]] = {
    "count": (by_count, {"shares": False}),
    "probability": (by_probability, {}),
    "probability of columns": (by_probability, {"shares": False, "columns": ("raw_logprobs",)}),
    "confidence": (by_confidence("lowest", 2), {"columns": ("confidences",)}),
    "score": (by_score(score), {}),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("model", range(3))
def test_a_vote_of_weights_ends_at_their_consensus(model: int, name: str) -> None:
    weigh, fields = WEIGHTS[name]
    rule = ConsensusShare(0.7, 5)
    result = run(model, seed=model, weigh=weigh, rule=rule, **fields)
    votes, weights = last_tokens(result.sequences), weigh(result.sequences)
    assert rule(votes, weights) or len(votes) == M
    for number in range(len(votes)):
        assert not rule(votes[:number], weigh(result.sequences[:number]))
    assert result.vote is not None
    assert result.vote.answer == vote_winner(votes, weights)
    assert result.vote.votes == pytest.approx(vote_totals(votes, weights))
    assert result.vote.confidence is None


def test_equal_weights_are_counts() -> None:
    weighed = run(0, weigh=by_count, rule=ConsensusShare(0.7, 5))
    counted = run(0, rule=ConsensusShare(0.7, 5))
    assert weighed.sequences == counted.sequences
    assert weighed.vote is not None
    assert counted.vote is not None
    assert weighed.vote.votes == counted.vote.votes
    assert counted.vote.confidence is not None


def test_a_rule_for_counts_decides_no_weights() -> None:
    with pytest.raises(PlugInError, match=r"rule .*BetaRule.* called with \(votes, weights\)"):
        run(0, weigh=by_count, rule=BetaRule())


@pytest.mark.parametrize("weights", [[-1.0], [float("inf")], ["heavy"], [1.0, 1.0]])
def test_what_is_no_weight_is_refused(weights: list[Any]) -> None:
    with pytest.raises(PlugInError, match="weigh"):
        run(0, weigh=lambda sequences: weights * len(sequences))


def bidding(price: float) -> TokenPrice:
    return TokenPrice(VoteUncertainty(last_tokens), price)


@pytest.mark.parametrize("shares", [True, False])
def test_a_higher_price_buys_fewer_samples(shares: bool) -> None:
    numbers = []
    for price in (1e-9, 2e-3, 1e-2, 10.0):
        results = [run(0, seed, shares=shares, bidder=bidding(price)) for seed in range(6)]
        numbers.append(sum(len(result.sequences) for result in results))
        assert all(result.vote and result.vote.answer is not None for result in results)
    free = sum(len(run(0, seed, shares=shares).sequences) for seed in range(6))
    assert numbers[0] == free
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] == 6 * 4, "the first wave of four needs no bid"
    assert numbers[-1] < numbers[0]


def test_a_bid_is_the_cost_of_the_next_wave() -> None:
    offers: list[tuple[int, float, float]] = []

    class Listening(TokenPrice):
        def offer(self, spent: int, value: float, expected: float) -> Any:
            offers.append((spent, value, expected))
            return super().offer(spent, value, expected)

    bidder: Bidding = Listening(VoteUncertainty(last_tokens), 1e-9)
    result = run(0, seed=2, shares=False, bidder=bidder, ahead=0)
    assert len(result.sequences) > 4
    lengths = [len(sequence.token_ids) for sequence in result.sequences]
    spent, value, expected = offers[0]
    assert spent == sum(lengths[:4])
    assert value == VoteUncertainty(last_tokens)(None, result.sequences[:4])  # type: ignore[arg-type]
    assert expected / (spent / 4) in (1, 2, 3, 4)


def test_votes_share_the_tokens_of_a_ledger() -> None:
    """Each sees that the other has joined; the first wave of each is paid for without a bid."""
    ledger = TokenLedger(120)
    bidders = [ledger.join(VoteUncertainty(last_tokens)) for _ in range(2)]
    bidders[1].leave(0)
    result = run(0, seed=2, rule=ConsensusShare(1.0, M), bidder=bidders[0])
    assert ledger.spent == result.counts.generated <= 120 + 4 * 4
    alone = run(0, seed=2, rule=ConsensusShare(1.0, M))
    assert 0 < len(result.sequences) <= len(alone.sequences)


@pytest.mark.parametrize("price", [0.0, -1.0, float("inf")])
def test_a_price_is_above_zero(price: float) -> None:
    with pytest.raises(ValueError, match="price"):
        bidding(price)
