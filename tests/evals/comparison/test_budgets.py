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
        replace(one, counts=TokenCounts(generated=cost), max_sequences=cap)
        for cap, cost, solved in ((2, 15, 4), (4, 25, 9), (8, 500, 10))
        for one in swept([True] * solved + [False] * (10 - solved), cap)
    ]
    search = prompts("best_first", [0] * 2 + [1] * 4 + [2] * 2 + [None] * 2, cost=10)
    found = list(at_budgets(prompt_curves([*online, *search]), [*online, *search], width=1))
    whole = [each for each in found if each.levels == (None,)]
    assert [each.max_sequences for each in whole] == [2, 4, 8]
    assert [each.tokens for each in whole] == [15, 25, 500]
    assert [each.num_sequences for each in whole] == [1.5, 2.5, 20]
    assert [each.search_pass for each in whole] == pytest.approx([0.4, 0.7, 0.8])
    assert [each.difference for each in whole] == pytest.approx([0.0, -0.2, -0.2])
    assert [each.is_exhausted for each in whole] == [False, False, True]
    for each in whole:
        low, high = each.interval
        assert low < each.difference < high
    votes = whole[0].search_votes
    assert votes is not None
    assert votes.pass_rate == pytest.approx((2 + 4) / 2 / 10)
    (said,) = budget_findings(found)
    assert said.startswith(
        "best_first τ=0.6 against eager_init θ=0.7 τ=0.6 at equal tokens: behind"
    )
    assert "all M=4 (-0.200)" in said
    assert "undecided (the interval includes 0) at all M=2 (+0.000)" in said
