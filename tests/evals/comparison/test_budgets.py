"""Searches at the tokens of EAGer-init."""

from dataclasses import replace

import pytest

from eager_sgl.core import TokenCounts
from evals.analysis.prompt_curves import prompt_curves
from evals.comparison.budgets import at_budgets
from evals.comparison.findings import budget_findings
from tests.evals.fakes.solved_prompts import prompts, swept


def test_a_search_is_read_off_where_it_cost_as_much_as_the_other() -> None:
    online = [
        replace(prompt, counts=TokenCounts(generated=cost), max_sequences=cap)
        for cap, cost, solved in ((2, 15, 4), (4, 25, 9), (8, 500, 10))
        for prompt in swept([True] * solved + [False] * (10 - solved), cap)
    ]
    search = prompts("best_first", [0] * 2 + [1] * 4 + [2] * 2 + [None] * 2, cost=10)
    budgets = list(at_budgets(prompt_curves([*online, *search]), [*online, *search], width=1))
    whole = [budget for budget in budgets if budget.levels == (None,)]
    assert [budget.max_sequences for budget in whole] == [2, 4, 8]
    assert [budget.tokens for budget in whole] == [15, 25, 500]
    assert [budget.num_sequences for budget in whole] == [1.5, 2.5, 20]
    assert [budget.search_pass for budget in whole] == pytest.approx([0.4, 0.7, 0.8])
    assert [budget.difference for budget in whole] == pytest.approx([0.0, -0.2, -0.2])
    assert [budget.is_exhausted for budget in whole] == [False, False, True]
    for budget in whole:
        low, high = budget.interval
        assert low < budget.difference < high
    votes = whole[0].search_votes
    assert votes is not None
    assert votes.pass_rate == pytest.approx((2 + 4) / 2 / 10)
    (said,) = budget_findings(budgets)
    assert said.startswith(
        "best_first τ=0.6 against eager_init θ=0.7 τ=0.6 at equal tokens: behind"
    )
    assert "all M=4 (-0.200)" in said
    assert "undecided (the interval includes 0) at all M=2 (+0.000)" in said
