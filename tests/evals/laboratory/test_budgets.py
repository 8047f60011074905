"""Prompts that share their tokens, as a ledger grants them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eager_sgl.search import round_sizes
from evals.laboratory.budgets import Rounds, last_rounds, rounds_of
from evals.laboratory.draws import draw
from evals.laboratory.rules import Rule, SharedBudget
from evals.laboratory.syntax import read_rules
from tests.evals.laboratory.build import random_samples

NUM_ORDERS = 8


def courses_of(text: str) -> tuple[Rule, list[Rounds]]:
    (rule,) = read_rules(text)
    prompts = [random_samples(seed, sample_id=str(seed)) for seed in range(7)]
    return rule, [rounds_of(rule, draw(prompt, 10, NUM_ORDERS, 0)) for prompt in prompts]


def granted(courses: list[Rounds], row: int, total: float) -> list[int]:
    """Rounds by a ledger that grants the best bid as long as it fits."""
    rounds = [0] * len(courses)
    spent = sum(course.tokens[row, 0] for course in courses)
    while True:
        bids = [
            course.bids[row, at] if at + 1 < len(course.sizes) else -math.inf
            for course, at in zip(courses, rounds, strict=True)
        ]
        best = int(np.argmax(bids))
        tokens = courses[best].tokens[row]
        if bids[best] == -math.inf or spent + np.diff(tokens)[rounds[best]] > total:
            return rounds
        spent += np.diff(tokens)[rounds[best]]
        rounds[best] += 1


@pytest.mark.parametrize("text", ["shared:0.3", "shared:0.5:1", "beta:0.8+shared:0.6+trie"])
def test_the_best_bid_is_granted_as_long_as_it_fits(text: str) -> None:
    rule, courses = courses_of(text)
    assert rule.budget is not None
    total = 300.0
    lasts = last_rounds(rule.budget, courses, total)
    for row in range(NUM_ORDERS):
        expected = granted(courses, row, rule.budget.tokens * total)  # type: ignore[operator]
        assert lasts[:, row].tolist() == expected


def test_a_decided_vote_bids_no_more() -> None:
    rule, courses = courses_of("beta:0.6+shared:1")
    assert rule.budget is not None
    lasts = last_rounds(rule.budget, courses, 10_000)
    (whole,) = read_rules("beta:0.6")
    assert any(course.sizes[last].max() < 10 for course, last in zip(courses, lasts, strict=True))
    free = last_rounds(SharedBudget(tokens=1.0), courses_of("shared:1")[1], 10_000)
    assert (free == len(round_sizes(10, 8)) - 1).all()
    assert (lasts <= free).all()
    assert whole.budget is None


def test_a_price_is_the_same_for_all_prompts() -> None:
    rule, courses = courses_of("price:30")
    assert rule.budget is not None
    lasts = last_rounds(rule.budget, courses, math.nan)
    for course, last in zip(courses, lasts, strict=True):
        for row in range(NUM_ORDERS):
            assert (course.bids[row, : last[row]] >= 30).all()
            assert last[row] == len(course.sizes) - 1 or course.bids[row, last[row]] < 30
    assert 0 < lasts.mean() < len(courses[0].sizes) - 1
    dear = last_rounds(SharedBudget(price=60.0), courses, math.nan)
    assert (dear <= lasts).all()
