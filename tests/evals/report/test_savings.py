"""What methods cost, and how often they are right, beside Full Parallel."""

from __future__ import annotations

from typing import Any

import pytest

from eager_sgl.core import TokenCounts
from evals.records.plan import Cell, Plan
from evals.records.record import PromptRecord, VoteCost
from evals.report.summarise import summarise_run
from evals.report.summary import Summary, summary_json
from evals.report.table import render_table
from evals.report.totals import VoteTotals
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


def votes(cost: VoteCost | None) -> Summary:
    counts = TokenCounts(generated=100, unique=80, naive=110)
    more: dict[str, Any] = {"method": "vote", "threshold": None, "counts": counts}
    of_votes = [record([True], sample_id=str(n), vote_cost=cost, **more) for n in range(2)]
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    a_plan: Plan = plan(methods=("parallel", "vote"), num_prompts=2)
    return summarise_run(header(a_plan), [*parallel, *of_votes], a_plan, {})


def test_the_tokens_of_a_vote_are_shown_by_kind() -> None:
    summary = votes(VoteCost(left=12, probes=5, num_probes=3))
    assert summary.rows[1].votes == VoteTotals(shared=60, left=24, probes=10, num_probes=6)
    assert summary_json(summary)["rows"][1]["votes"] == {
        "shared": 60,
        "left": 24,
        "probes": 10,
        "num_probes": 6,
    }
    assert (
        "50% fewer tokens (of its tokens 12% of samples that were left, 5% of probes)"
        in (summary.savings[0])
    )
    lines = [" ".join(line.split()) for line in render_table(summary).split("\n")]
    assert "of samples that were left – 24" in lines
    assert "answers to probes – 10" in lines
    assert "shared, not generated again – 60" in lines


def test_only_tokens_that_there_are_have_a_line() -> None:
    table = render_table(votes(VoteCost(left=0, probes=0, num_probes=0)))
    assert "shared, not generated again" in table
    assert not [word for word in ("left", "probes") if word in table]


def test_votes_of_earlier_versions_have_no_kinds() -> None:
    summary = votes(None)
    assert summary.rows[1].votes is None
    assert "(of its tokens" not in summary.savings[0]
