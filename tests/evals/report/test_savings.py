"""What methods cost, and how often they are right, beside Full Parallel."""

from __future__ import annotations

from typing import Any

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
    assert sentence == (
        "eager_init: 75% fewer tokens and 60% fewer seconds than parallel; the majority's answer "
        "is right for 100.0% of the prompts (there 50.0%); some sequence is right for 100.0% of "
        "the prompts (there 50.0%)."
    )


def test_more_tokens_are_named_as_more() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    (sentence,) = summarised([*parallel, *run("eager_init", [[True], [True]], 300)]).savings
    assert sentence.startswith("eager_init: 50% more tokens and")


def test_methods_on_different_prompts_are_not_compared() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    assert not summarised([*parallel, *run("eager_init", [[True]], 50)]).savings


def test_a_sweep_has_no_savings() -> None:
    parallel = run("parallel", [[True] * 4, [False] * 4], 200)
    records = [*parallel, *run("eager_init", [[True], [True]], 50)]
    records += run("eager_init", [[True], [True]], 40, max_sequences=2)
    assert not summarised(records, max_sequences=(2, 4)).savings
