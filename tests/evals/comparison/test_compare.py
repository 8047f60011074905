"""All comparisons of a run."""

from dataclasses import replace

import numpy as np
import pytest

from evals.comparison.compare import compare
from evals.comparison.table import render
from tests.evals.fakes.solved_prompts import prompts, swept


def test_targets_are_of_the_base_temperature_whatever_the_reference() -> None:
    base = prompts("parallel", [3] * 20, cost=10)
    control = prompts("parallel", [3] * 12 + [None] * 8, cost=30)
    control = [replace(prompt, temperature=1.0) for prompt in control]
    records = [*base, *control, *prompts("best_first", [0] * 20, cost=10)]
    comparison = compare(records, 0.6, 1, {prompt.cell: 1.0 for prompt in records})
    of_search = {
        pair.reference: pair
        for pair in comparison.needed
        if pair.method == "best_first τ=0.6" and pair.k == 8
    }
    assert [pair.target for pair in of_search.values()] == pytest.approx([8 / 20] * 2)
    assert of_search["parallel τ=0.6"].reference_tokens == pytest.approx(8 * 10)
    assert of_search["parallel τ=1"].reference_tokens == pytest.approx(8 / 0.6 * 30)


def test_full_parallel_is_compared_at_the_searches_m() -> None:
    """It may have half as many sequences again, for methods of two stages."""
    parallel = prompts("parallel", [18] * 4, cost=10)
    searched = [
        replace(prompt, sequences=prompt.sequences[:10], max_sequences=10)
        for prompt in prompts("best_first", [0] * 4, cost=10)
    ]
    comparison = compare(
        [*parallel, *searched], 0.6, 1, dict.fromkeys([parallel[0].cell, searched[0].cell], 1.0)
    )
    stopped, voted = comparison.verifier[0], comparison.votes[0]
    assert (stopped.method, stopped.max_sequences, voted.max_sequences) == (
        "parallel",
        10,
        10,
    )
    assert stopped.coverage == pytest.approx(10 / 20)
    expected = np.mean([min(rank, 10) for rank in range(1, 21)])
    assert stopped.tokens == pytest.approx(10 * expected)
    assert voted.pass_rate == 0, "the nineteenth is not among them"


def test_seconds_are_tokens_at_the_pace_of_the_run() -> None:
    records = [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [0] * 20, cost=10)]
    parallel, search = records[0].cell, records[-1].cell
    comparison = compare(records, 0.6, 1, {parallel: 2.0, search: 5.0})
    assert comparison.tokens_per_second == {
        "parallel τ=0.6": 20 * 200 / 2.0,
        "best_first τ=0.6": 20 * 200 / 5.0,
    }
    pair = next(n for n in comparison.needed if n.method == "best_first τ=0.6" and n.k == 8)
    assert pair.seconds == pytest.approx(0.4 * 10 / 800)
    assert pair.reference_seconds == pytest.approx(80 / 2000)
    unmeasured = compare(records, 0.6, 1, {parallel: 0.0, search: 0.0})
    assert {pair.seconds for pair in unmeasured.needed} == {None}


def test_a_run_of_one_level_is_said_once() -> None:
    records = [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [0] * 20, cost=10)]
    online = swept([True] * 20, 4)
    cells = {prompt.cell: 1.0 for prompt in [*records, *online]}
    comparison = compare([*records, *online], 0.6, 1, cells)
    assert {prompt.level for prompt in records} == {1}
    assert {pair.levels for pair in comparison.needed} == {(1,)}
    assert {pair.levels for pair in comparison.budgets} == {(None,)}
    assert sum(pair.method == "best_first τ=0.6" for pair in comparison.needed) == 2


def test_votes_distinguish_an_adaptive_theta_from_a_fixed_theta() -> None:
    fixed = swept([True] * 4, 4)
    adaptive = [replace(prompt, threshold=None) for prompt in fixed]
    records = [*prompts("parallel", [3] * 4, cost=10), *fixed, *adaptive]
    comparison = compare(records, 0.6, 1, {prompt.cell: 1.0 for prompt in records})
    table = render(comparison).rpartition("by probability")[2].partition("\n\n")[0]
    lines = [line.split() for line in table.splitlines() if "eager_init" in line]
    assert [line[1] for line in lines] == ["0.7", "auto"]
