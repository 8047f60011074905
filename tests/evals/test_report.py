"""Rows of a summary, from records made by hand."""

import pytest

from eager_sgl.core import TokenCounts
from evals.metrics import pass_at_k
from evals.report import Row, match_parallel, render_table, summarise
from evals.store import PromptRecord
from tests.evals.build import record

REQUIRED = [
    "method",
    "max_sequences",
    "theta",
    "num_prompts",
    "pass_at_k",
    "pass_at_k_stderr",
    "cons_at_k",
    "pass_rate",
    "pass_rate_stderr",
    "num_sequences",
    "tokens_generated",
    "tokens_unique",
    "tokens_naive",
    "tokens_discarded",
    "prompt_tokens",
    "cached_tokens",
    "num_requests",
    "wall_seconds",
]
ADDED = [
    "cons_at_k_stderr",
    "tokens_hand_set",
    "tokens_prefilled",
    "matched_parallel_k",
    "matched_parallel_pass_at_k",
    "matched_parallel_pass_at_k_stderr",
]


def parallel(generated: int = 100) -> list[PromptRecord]:
    counts = TokenCounts(generated=generated, unique=generated, naive=generated, prompt=50)
    corrects = ([True, False, False, False], [False] * 4, [True, True, False, True])
    return [
        record(correct, sample_id=str(index), counts=counts)
        for index, correct in enumerate(corrects)
    ]


def eager(generated: int = 60) -> list[PromptRecord]:
    counts = TokenCounts(
        generated=generated, unique=50, naive=90, hand_set=2, prompt=300, cached=280, requests=7
    )
    return [
        record([True], method="eager_init", sample_id="0", counts=counts),
        record([False, False, True], method="eager_init", sample_id="1", counts=counts),
        record([False, False], method="eager_init", sample_id="2", counts=counts, votes=[0, 0]),
    ]


def test_a_row_has_the_fields_of_the_schema() -> None:
    row = summarise(eager(), can_vote=True, wall_seconds=1.0).to_json()
    assert sorted(row) == sorted(REQUIRED + ADDED)


def test_a_row_adds_up_its_records() -> None:
    row = summarise(eager(), can_vote=True, wall_seconds=2.5).to_json()
    expected = {
        "method": "eager_init",
        "max_sequences": 4,
        "theta": 0.7,
        "num_prompts": 3,
        "pass_at_k": pytest.approx(2 / 3),
        "cons_at_k": pytest.approx(1 / 3),
        "pass_rate": pytest.approx((1 + 1 / 3 + 0) / 3),
        "num_sequences": 6,
        "tokens_generated": 180,
        "tokens_unique": 150,
        "tokens_naive": 270,
        "tokens_discarded": 36,
        "tokens_hand_set": 6,
        "tokens_prefilled": 60,
        "prompt_tokens": 900,
        "cached_tokens": 840,
        "num_requests": 21,
        "wall_seconds": 2.5,
    }
    assert {name: row[name] for name in expected} == expected


def test_parallel_has_no_theta_and_a_task_without_votes_no_majority() -> None:
    row = summarise(parallel(), can_vote=False, wall_seconds=1.0).to_json()
    assert row["theta"] is None
    assert row["cons_at_k"] is None
    assert row["cons_at_k_stderr"] is None


def test_parallel_is_matched_at_equal_tokens() -> None:
    row = match_parallel(summarise(eager(60), can_vote=True, wall_seconds=1.0), parallel(100))
    assert row.matched is not None
    assert row.matched.k == pytest.approx(4 * 60 / 100)
    values = [pass_at_k(4, num_correct, 2.4) for num_correct in (1, 0, 3)]
    assert row.to_json()["matched_parallel_pass_at_k"] == pytest.approx(sum(values) / 3)


def test_nothing_is_claimed_beyond_the_sequences_parallel_has() -> None:
    row = match_parallel(summarise(eager(101), can_vote=True, wall_seconds=1.0), parallel(100))
    assert row.to_json()["matched_parallel_k"] > 4
    assert row.to_json()["matched_parallel_pass_at_k"] is None
    note = " ".join(render_table([parallel_row(), row]).split())
    assert "no unbiased Pass@k of parallel beyond M = 4" in note


def parallel_row() -> Row:
    return summarise(parallel(), can_vote=True, wall_seconds=1.0)


def test_the_table_states_every_figure_and_fits_a_terminal() -> None:
    row = match_parallel(summarise(eager(), can_vote=True, wall_seconds=1.0), parallel())
    table = render_table([parallel_row(), row])
    lines = table.splitlines()
    assert lines[0].split() == ["parallel", "eager_init"]
    assert {len(line) for line in lines[: lines.index(lines[1], 2)]} == {len(lines[0])}
    for text in ("Pass@4", "Cons@4", "Pass Rate", "0.667 ± 0.333", "k = 2.40", "93.3%", "180"):
        assert text in table
    assert all(len(line) <= 80 for line in lines)


def test_one_prompt_has_figures_without_errors() -> None:
    row = summarise(parallel()[:1], can_vote=True, wall_seconds=1.0)
    assert "1.000 ± –" in render_table([row])
