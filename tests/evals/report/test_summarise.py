"""Summaries of runs made by hand, and of whole ones with random trees."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from eager_sgl.core import TokenCounts
from evals.analysis.metrics import majority_at_k, pass_at_k
from evals.records.files import to_line
from evals.records.plan import Plan
from evals.records.record import PromptRecord, StageTwo
from evals.report.summarise import summarise_run
from evals.report.summary import Summary, summary_json
from evals.report.table import render_table
from tests.evals.fakes import sample_run
from tests.evals.fakes.build import record
from tests.evals.fakes.sample_run import header, plan, run_records

ROW_FIELDS = {
    "votes",
    "method",
    "max_sequences",
    "theta",
    "temperature",
    "seeds",
    "num_prompts",
    "num_failed",
    "coverage",
    "estimated",
    "name",
    "pass_at_k",
    "pass_at_k_stderr",
    "pass_at_k_stderr_seeds",
    "cons_at_k",
    "cons_at_k_stderr",
    "pass_rate",
    "pass_rate_stderr",
    "stderr_over",
    "num_sequences",
    "tokens_generated",
    "tokens_unique",
    "tokens_naive",
    "tokens_discarded",
    "tokens_forced",
    "tokens_prefilled",
    "prompt_tokens",
    "cached_tokens",
    "num_requests",
    "wall_seconds",
    "stage_two",
    "beside_parallel",
    "judged",
    "inexact_samples",
    "adaptive_theta",
    "paper",
    "matched_parallel_k",
    "matched_parallel_pass_at_k",
    "matched_parallel_pass_at_k_stderr",
    "matched_difference",
    "matched_difference_ci95",
    "matched_verdict",
    "levels",
}
SMALL: dict[str, Any] = {"methods": ("parallel", "eager_init"), "num_prompts": 3}


def parallel(generated: int = 100, **more: Any) -> list[PromptRecord]:
    counts = TokenCounts(generated=generated, unique=generated, naive=generated, prompt=50)
    corrects = ([True, False, False, False], [False] * 4, [True, True, False, True])
    return [
        record(correct, sample_id=str(index), counts=counts, **more)
        for index, correct in enumerate(corrects)
    ]


def eager(generated: int = 60, **more: Any) -> list[PromptRecord]:
    counts = TokenCounts(
        generated=generated, unique=50, naive=90, forced=2, prompt=300, cached=280, requests=7
    )
    fields: dict[str, Any] = {"method": "eager_init", "counts": counts} | more
    return [
        record([True], sample_id="0", **fields),
        record([False, False, True], sample_id="1", **fields),
        record([False, False], sample_id="2", votes=[0, 0], **fields),
    ]


def summarise(records: list[PromptRecord], a_plan: Plan | None = None, **swept: Any) -> Summary:
    a_plan = a_plan or plan(**SMALL | swept)
    return summarise_run(header(a_plan), records, a_plan, dict.fromkeys(a_plan.cells, 2.5))


def row_of(summary: Summary, method: str, **where: Any) -> dict[str, Any]:
    content = json.loads(to_line(summary_json(summary)))
    (row,) = [r for r in content["rows"] if r["method"] == method and where.items() <= r.items()]
    return dict(row)


def whole_run(**swept: Any) -> Summary:
    a_plan = plan(**swept)
    return summarise(run_records(a_plan), a_plan)


def test_a_row_has_the_fields_of_the_schema() -> None:
    summary = summarise([*parallel(), *eager()])
    content = summary_json(summary)
    assert content["schema"] == 2
    for row in content["rows"]:
        assert row.keys() == ROW_FIELDS


def test_a_row_adds_up_its_records() -> None:
    row = row_of(summarise(eager()), "eager_init")
    expected = {
        "max_sequences": 4,
        "theta": 0.7,
        "temperature": 0.6,
        "seeds": [0],
        "coverage": "realised",
        "num_prompts": 3,
        "pass_at_k": pytest.approx(2 / 3),
        "cons_at_k": pytest.approx(1 / 3),
        "pass_rate": pytest.approx((1 + 1 / 3 + 0) / 3),
        "num_sequences": 6,
        "tokens_generated": 180,
        "tokens_unique": 150,
        "tokens_naive": 270,
        "tokens_discarded": 36,
        "tokens_forced": 6,
        "tokens_prefilled": 60,
        "prompt_tokens": 900,
        "cached_tokens": 840,
        "num_requests": 21,
        "wall_seconds": 2.5,
        "stage_two": None,
        "matched_parallel_pass_at_k": None,
    }
    assert {name: row[name] for name in expected} == expected


def test_a_task_without_votes_has_no_majority() -> None:
    row = row_of(summarise(parallel(), can_vote=False), "parallel")
    assert row["theta"] is None
    assert row["cons_at_k"] is None
    assert row["cons_at_k_stderr"] is None


def test_parallel_is_matched_at_equal_tokens() -> None:
    row = row_of(summarise([*parallel(100), *eager(60)]), "eager_init")
    assert row["matched_parallel_k"] == pytest.approx(4 * 60 / 100)
    value = sum(pass_at_k(4, num_correct, 2.4) for num_correct in (1, 0, 3)) / 3
    assert row["matched_parallel_pass_at_k"] == pytest.approx(value)
    assert row["matched_difference"] == pytest.approx(2 / 3 - value)
    low, high = row["matched_difference_ci95"]
    assert low <= row["matched_difference"] <= high


def test_nothing_is_claimed_beyond_the_sequences_parallel_has() -> None:
    summary = summarise([*parallel(100), *eager(101)])
    row = row_of(summary, "eager_init")
    assert row["matched_parallel_k"] > 4
    for name in ("matched_parallel_pass_at_k", "matched_difference", "matched_difference_ci95"):
        assert row[name] is None
    assert "with more tokens than parallel generated" in " ".join(summary.findings)


def test_smaller_m_of_parallel_are_estimated_from_the_largest() -> None:
    summary = summarise([*parallel(), *eager()], max_sequences=(1, 2, 4))
    for k in (1, 2):
        row = row_of(summary, "parallel", max_sequences=k)
        values = [pass_at_k(4, num_correct, k) for num_correct in (1, 0, 3)]
        votes = [majority_at_k(r.votes, r.correct, k) for r in parallel()]
        assert row["pass_at_k"] == pytest.approx(sum(values) / 3)
        assert row["cons_at_k"] == pytest.approx(sum(votes) / 3)
        assert row["tokens_generated"] == 300 * k / 4
        assert row["num_sequences"] == 3 * k
        assert row["coverage"] == "unbiased"
        assert row["estimated"]
        assert row["num_requests"] is None
    assert not row_of(summary, "parallel", max_sequences=4)["estimated"]


def test_a_prompt_is_averaged_over_seeds_before_the_error_is_taken() -> None:
    records = [*eager(seed=0), *eager(seed=1)]
    records[3] = replace(records[3], sequences=records[5].sequences)  # prompt 0 fails once
    row = row_of(summarise(records, seeds=(0, 1)), "eager_init")
    assert row["seeds"] == [0, 1]
    assert row["num_prompts"] == 3
    assert row["num_sequences"] == 6 + 7
    assert row["pass_at_k"] == pytest.approx(0.5)  # 0.5, 1 and 0
    assert row["pass_at_k_stderr"] == pytest.approx(0.5 / math.sqrt(3))
    assert row["pass_at_k_stderr_seeds"] == pytest.approx(1 / 6)  # 2/3 and 1/3
    assert row["wall_seconds"] == 5.0


def test_stage_two_is_added_up() -> None:
    given = [
        StageTwo("restart", True, 4, 3, 0.7, generated=70),
        StageTwo("restart", False, 0, 0, 0.7),
        StageTwo("restart", True, 2, 2, 0.7, generated=30),
    ]
    records = [
        replace(prompt, method="eager", stage_two=stage)
        for prompt, stage in zip(eager(), given, strict=True)
    ]
    row = row_of(summarise(records, methods=("eager_init", "eager")), "eager")
    assert row["stage_two"] == {
        "mode": "restart",
        "eligible": 2,
        "extra_granted": 6,
        "extra_used": 5,
        "tokens_per_extra": 20.0,
        "pass_gained": 0.0,
    }


def test_levels_divide_a_row_and_are_matched_within() -> None:
    summary = whole_run(num_prompts=9)
    for row in summary_json(summary)["rows"]:
        levels = row["levels"]
        assert [level["level"] for level in levels] == [1, 2, 3]
        for name in ("num_prompts", "num_sequences", "tokens_generated"):
            assert sum(level[name] for level in levels) == row[name]
        total = sum(level["pass_at_k"] * level["num_prompts"] for level in levels)
        assert total / 9 == pytest.approx(row["pass_at_k"])
        matched = [level["matched_parallel_k"] for level in levels]
        assert all(k is None for k in matched) == (row["method"] == "parallel")


def test_entropy_is_correlated_with_the_pass_rate_of_eager_init() -> None:
    records = [
        replace(prompt, peak_entropy=peak) for prompt, peak in zip(eager(), (1, 2, 3), strict=True)
    ]
    correlation = summary_json(summarise([*parallel(), *records]))["entropy_pass_rate"]
    assert (correlation["spearman"], correlation["n"]) == (pytest.approx(-1), 3)
    assert [level["level"] for level in correlation["levels"]] == [1]
    assert summary_json(summarise(parallel()))["entropy_pass_rate"] is None


def test_a_partial_run_says_what_is_missing_and_compares_what_both_have() -> None:
    summary = summarise([*parallel()[1:], *eager()[:2]])
    content = summary_json(summary)
    assert content["partial"] is True
    assert [(entry["method"], entry["num_missing"]) for entry in content["missing"]] == [
        ("parallel", 1),
        ("eager_init", 1),
    ]
    row = row_of(summary, "eager_init")
    assert row["num_prompts"] == 2
    assert row["matched_parallel_pass_at_k"] == pytest.approx(0)  # of prompt 1 alone
    assert "PARTIAL: 2 results are missing" in render_table(summary)
    assert summary_json(summarise([*parallel(), *eager()]))["partial"] is False


def test_a_run_without_results_has_a_summary() -> None:
    summary = summarise([])
    assert summary_json(summary)["rows"] == []
    assert render_table(summary).startswith("no results yet")


def test_findings_name_every_method_and_its_verdict() -> None:
    """At half the tokens, one method always passes where Full Parallel seldom does, and one never
    does.
    """
    names = [str(number) for number in range(20)]
    half = TokenCounts(generated=5)
    draws = [True, False, False, False]
    records = [record(draws, sample_id=name) for name in names]
    records += [record([True], method="eager_init", sample_id=n, counts=half) for n in names]
    nothing = StageTwo("restart", False, 0, 0, 0.7)
    records += [
        record([False], method="eager", sample_id=n, counts=half, stage_two=nothing) for n in names
    ]
    methods = ("parallel", "eager_init", "eager")
    first, second = summarise(records, methods=methods, num_prompts=20).findings
    assert first == (
        "eager_init against parallel at equal tokens: better at M=4 (+0.500); worse nowhere."
    )
    assert second.endswith("better nowhere; worse at M=4 (-0.500).")


def test_few_prompts_decide_nothing() -> None:
    winner = [record([True], method="eager_init", sample_id=str(i)) for i in range(3)]
    (finding,) = summarise([*parallel(), *winner]).findings
    assert "better nowhere; worse nowhere; undecided (under 10 prompts) at M=4" in finding


def test_a_simple_run_has_a_column_per_method() -> None:
    table = render_table(summarise([*parallel(), *eager()]))
    lines = table.splitlines()
    assert lines[0].split() == ["parallel", "eager_init"]
    assert {len(line) for line in lines[: lines.index(lines[1], 2)]} == {len(lines[0])}
    for text in ("Pass@4", "Cons@4", "Pass Rate", "0.667 ± 0.333", "k = 2.40", "93.3%", "180"):
        assert text in table


@pytest.mark.parametrize(
    "swept",
    [
        {},
        {"max_sequences": (1, 2, 32), "thresholds": (0.7, 0.9), "temperatures": (0.6, 0.9)},
        {"seeds": (0, 1)},
        {"stage_twos": ("restart", "resume")},
    ],
)
def test_a_table_fits_in_100_columns_and_names_its_figures(swept: dict[str, Any]) -> None:
    table = render_table(whole_run(**swept))
    assert max(map(len, table.splitlines())) <= 100
    words = " ".join(table.split())
    assert "coverage with the sequences it realised" in words
    assert "paired bootstrap over prompts" in words
    if swept.get("max_sequences"):
        assert "temperature 0.9" in table
        assert "parallel was run once, with 32 sequences per prompt" in words


def test_one_prompt_has_figures_without_errors() -> None:
    summary = summarise(parallel()[:1], methods=("parallel",), num_prompts=1)
    assert "1.000 ± –" in render_table(summary)


def test_a_second_stage_that_is_not_complete_is_not_compared() -> None:
    """What is missing of it are the hard prompts: those that were granted something."""
    a_plan = sample_run.plan(num_prompts=24)
    records = sample_run.run_records(a_plan)
    easy = [r for r in records if r.method != "eager" or any(r.correct)]
    assert len(easy) < len(records)

    def matched(records: list[PromptRecord]) -> dict[str, bool]:
        seconds = dict.fromkeys(a_plan.cells, 1.0)
        content = summary_json(summarise_run(sample_run.header(a_plan), records, a_plan, seconds))
        return {row["method"]: row["matched_parallel_k"] is not None for row in content["rows"]}

    assert matched(records)["eager"]
    assert matched(easy) == matched(records) | {"eager": False}


def test_a_report_says_where_samples_had_too_few_tokens() -> None:
    a_plan = plan(methods=("parallel", "trie_parallel"), num_prompts=3)
    sampled = [
        record([True] * 4, method="trie_parallel", sample_id=name, threshold=None, inexact_steps=n)
        for name, n in {"a": 0, "b": 5, "c": 7}.items()
    ]
    summary = summarise_run(header(a_plan), sampled, a_plan, {})
    row = row_of(summary, "trie_parallel")
    assert row["inexact_samples"] == {"num_steps": 12, "num_trees": 2, "of_trees": 3}
    said = " ".join(render_table(summary).split())
    assert (
        "trie_parallel M=4 τ=0.6: at 12 stored steps, in 2 of 3 trees, the nucleus of top-p" in said
    )
    exact = [replace(prompt, inexact_steps=0) for prompt in sampled]
    assert "stored steps" not in render_table(summarise_run(header(a_plan), exact, a_plan, {}))
    assert row_of(summarise(eager()), "eager_init")["inexact_samples"] is None


@pytest.mark.parametrize(
    ("methods", "once"),
    [
        (("parallel", "eager_init"), ["parallel was run once, with 8 sequences per prompt"]),
        (("best_first", "vote"), ["Run once, with M = 8: best_first, vote."]),
        (
            ("parallel", "trie_parallel"),
            ["parallel was run once, with 8 ", "Run once, with M = 8: trie_parallel."],
        ),
    ],
)
def test_estimated_rows_are_those_of_the_methods_that_were_run(
    methods: tuple[str, ...], once: list[str]
) -> None:
    a_plan = plan(methods=methods, max_sequences=(4, 8), num_prompts=3)
    summary = summarise_run(header(a_plan), sample_run.run_records(a_plan), a_plan, {})
    said = [note for note in summary.notes if "un once" in note]
    assert len(said) == len(once)
    assert all(note.startswith(text) for note, text in zip(said, once, strict=True))
