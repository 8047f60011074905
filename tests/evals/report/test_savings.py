"""What methods cost, and how often they are right, beside Full Parallel."""

from __future__ import annotations

from typing import Any

import pytest

from eager_sgl.core import TokenCounts
from evals.records.plan import Cell, Plan
from evals.records.record import PromptRecord
from evals.report.summarise import summarise_run
from evals.report.summary import Summary
from tests.evals.fakes.build import record
from tests.evals.fakes.sample_run import header, plan

SECONDS = {"parallel": 10.0, "eager_init": 4.0}


def run(method: str, correct: list[list[bool]], generated: int, **more: Any) -> list[PromptRecord]:
    counts = TokenCounts(generated=generated, unique=generated, naive=generated)
    return [
        record(one, sample_id=str(index), method=method, counts=counts, **more)
        for index, one in enumerate(correct)
    ]


def summarised(records: list[PromptRecord], num_prompts: int = 2, **more: Any) -> Summary:
    a_plan: Plan = plan(methods=("parallel", "eager_init"), num_prompts=num_prompts, **more)
    seconds: dict[Cell, float] = {cell: SECONDS[cell.method] for cell in a_plan.cells}
    return summarise_run(header(a_plan), records, a_plan, seconds)


def test_a_method_is_compared_by_tokens_seconds_and_shares() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    (sentence,) = summarised([*parallel, *run("eager_init", [[True], [True]], 50)]).savings
    assert sentence.startswith("eager_init beside parallel: 75% fewer tokens, 60% fewer seconds; ")
    assert "the voted answer is right for 100.0% of the prompts (+0.500 [" in sentence
    assert "some sequence is right for 100.0% of the prompts (+0.500 [" in sentence


def test_more_tokens_are_named_as_more() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    (sentence,) = summarised([*parallel, *run("eager_init", [[True], [True]], 300)]).savings
    assert "50% more tokens, 60% fewer seconds" in sentence


def test_shares_of_tokens_have_intervals_over_prompts() -> None:
    parallel = [*run("parallel", [[True] * 4] * 30, 200)]
    row = summarised([*parallel, *run("eager_init", [[True]] * 30, 50)], num_prompts=30).rows[1]
    assert row.beside is not None
    assert row.beside.tokens == 0.25
    assert row.beside.tokens_interval == pytest.approx((0.25, 0.25))
    assert row.beside.majority is not None
    low, high = row.beside.majority.interval or (1.0, -1.0)
    assert low < 0.0 < high  # 30 prompts that agree may hide others


def test_methods_on_different_prompts_are_not_compared() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    assert not summarised([*parallel, *run("eager_init", [[True]], 50)]).savings


def test_a_sweep_has_no_savings() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    records = [*parallel, *run("eager_init", [[True], [True]], 50)]
    records += run("eager_init", [[True], [True]], 40, max_sequences=2)
    assert not summarised(records, max_sequences=(2, 4)).savings
