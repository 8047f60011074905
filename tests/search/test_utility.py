"""Utilities: the order of prompts by vote uncertainty, and the best entry of a frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from concurrent.futures import Future
from typing import Any

import pytest

from eager_sgl import (
    BestEntry,
    BestFirst,
    SamplingConfig,
    SearchConfig,
    Sequence,
    Utility,
    VoteUncertainty,
)
from eager_sgl.search.priorities import find_priority
from eager_sgl.tree import TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution


def sequence(*token_ids: int) -> Sequence:
    return Sequence(token_ids, (), "stop", raw_logprob=math.log(0.1))


def test_utility_is_higher_for_disagreement_and_for_fewer_sequences() -> None:
    rule = VoteUncertainty(lambda sequences: [s.token_ids[-1] for s in sequences])
    agreed = [sequence(index, 7) for index in range(4)]
    apart = [sequence(index, index) for index in range(4)]
    tree: Any = None  # which the rule does not look at
    assert rule(tree, apart) > rule(tree, agreed)
    assert rule(tree, agreed[:2]) > rule(tree, agreed)
    assert rule(tree, apart) == pytest.approx(math.log((3 / 4 + 1 / 5) / 4))


class GrantingFour:
    """A bidder that records the values of a utility, and is granted four rounds."""

    def __init__(self, utility: Utility) -> None:
        self.rule = utility
        self.values: list[float] = []

    def utility(self, tree: TokenTree, sequences: Items[Sequence]) -> float:
        self.values.append(self.rule(tree, sequences))
        return self.values[-1]

    def offer(self, spent: int, value: float, expected: float) -> Future[bool]:
        outcome: Future[bool] = Future()
        outcome.set_result(len(self.values) <= 4)
        return outcome

    def leave(self, spent: int | None = None) -> None:
        pass

    def __enter__(self) -> GrantingFour:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


@pytest.mark.parametrize("priority", ["joint_cost", "flat_joint_cost"])
def test_the_best_entry_is_the_candidate_that_best_first_opens_next(priority: str) -> None:
    bidder: Any = GrantingFour(BestEntry(find_priority(priority)))
    config = SearchConfig(
        max_sequences=20,
        width=1,
        top_k=VOCABULARY,
        sampling=SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4),
        reasoning_end=None,
    )
    endpoint = endpoint_of(ScriptedServer(mixed_distribution(0)))
    result = run_method(BestFirst(config, priority=priority, bidder=bidder), endpoint)
    opened = [point.priority for point in result.branch_points]
    assert len(opened) == 4
    assert bidder.values[:4] == pytest.approx(opened)


def test_the_best_entry_of_an_empty_frontier_is_minus_infinity() -> None:
    tree = TokenTree((9,), max_new_tokens=4)
    assert BestEntry(find_priority("joint_cost"))(tree, []) == -math.inf
