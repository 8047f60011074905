"""Seconds to equal pass: shares and intervals that are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from evals.comparison.seconds import main
from evals.comparison.timing import Seconds, SecondsAtK, seconds_at_k, seconds_to_targets
from evals.records.files import StoreError, to_line
from evals.records.header import write_header
from evals.records.plan import Cell
from evals.records.record import PromptRecord
from tests.evals.fakes import sample_run
from tests.evals.fakes.solved_prompts import prompts

SOLVED: dict[str, list[int | None]] = {"parallel": [0, 2, 5, None] * 10, "best_first": [0] * 40}
METHODS = tuple(SOLVED)


def compared(records: list[PromptRecord], seconds: Mapping[tuple[str, int], float]) -> Seconds:
    """Best-first against Full Parallel, seconds by method and seed."""
    cells: dict[Cell, float] = {
        record.cell: seconds[record.method, record.seed] for record in records
    }
    (row,) = (
        row for row in seconds_to_targets(records, cells) if row.method.startswith("best_first")
    )
    return row


def seeded(method: str, seed: int) -> list[PromptRecord]:
    return [replace(record, seed=seed) for record in prompts(method, SOLVED[method], cost=10)]


def test_seconds_are_tokens_over_the_pace() -> None:
    """A method costs twice the seconds at half the pace."""
    records = seeded("parallel", 0) + seeded("best_first", 0)
    row = compared(records, {("parallel", 0): 4.0, ("best_first", 0): 8.0})
    num_tokens = 40 * 20 * 10
    assert row.tokens_per_second == pytest.approx(num_tokens / 8)
    assert row.reference_seconds == pytest.approx(4.0 * 16 / 20)
    assert row.ratio is not None
    assert row.reference_seconds is not None
    assert row.seconds == pytest.approx(row.ratio * row.reference_seconds)
    at_equal_pace = compared(records, {("parallel", 0): 4.0, ("best_first", 0): 4.0})
    assert at_equal_pace.ratio == pytest.approx(row.ratio / 2)
    assert at_equal_pace.interval is not None
    assert row.interval == pytest.approx([2 * end for end in at_equal_pace.interval])


def test_paces_that_differ_between_seeds_widen_the_interval() -> None:
    records = [record for seed in (0, 1) for method in METHODS for record in seeded(method, seed)]
    steady = {(method, seed): 4.0 for method in METHODS for seed in (0, 1)}
    unsteady = {**steady, ("best_first", 0): 2.0, ("best_first", 1): 6.0}
    narrow, wide = compared(records, steady), compared(records, unsteady)
    assert narrow.ratio == pytest.approx(wide.ratio)
    assert narrow.interval is not None
    assert wide.interval is not None
    assert wide.interval[0] < narrow.interval[0]
    assert wide.interval[1] > narrow.interval[1]


def test_the_reference_is_the_temperature_that_passes_most() -> None:
    hot = [replace(r, temperature=1.0) for r in prompts("parallel", [0] * 40, cost=10)]
    records = seeded("parallel", 0) + hot + seeded("best_first", 0)
    row = compared(records, {("parallel", 0): 4.0, ("best_first", 0): 4.0})
    assert row.reference == "parallel τ=1"
    assert row.target == pytest.approx(0.8)
    assert row.seconds is not None


def test_equal_numbers_cost_seconds_by_their_tokens_and_pace() -> None:
    """Sequences of half the length at half the pace take as long."""
    of_parallel = prompts("parallel", SOLVED["parallel"], cost=5)
    short = [replace(record, temperature=1.0) for record in of_parallel]
    records = seeded("parallel", 0) + short
    cells = {record.cell: 4.0 for record in records}
    (row,) = (row for row in seconds_at_k(records, cells) if row.method == "parallel τ=1")
    assert row.k == 16
    assert row.ratio == pytest.approx(1.0)
    assert row.interval == pytest.approx((1.0, 1.0))


def test_equal_numbers_are_compared_by_what_they_solve() -> None:
    records = seeded("parallel", 0) + seeded("best_first", 0)
    cells = {record.cell: 4.0 for record in records}
    rows = {row.method.split()[0]: row for row in seconds_at_k(records, cells)}
    assert rows["parallel"].passes == pytest.approx(0.75 * 16 / 20)
    assert rows["best_first"].difference == pytest.approx(0.4)
    assert rows["best_first"].difference_interval is not None
    low, high = rows["best_first"].difference_interval
    assert 0 < low < 0.4 < high


def test_the_reference_is_not_compared_with_itself() -> None:
    records = seeded("parallel", 0) + seeded("best_first", 0)
    cells = {record.cell: 4.0 for record in records}
    at_k = next(row for row in seconds_at_k(records, cells) if row.method == row.reference)
    rows = seconds_to_targets(records, cells)
    to_target = next(row for row in rows if row.method == row.reference)
    assert (at_k.difference, at_k.difference_interval) == (None, None)
    assert (at_k.ratio, at_k.interval) == (to_target.ratio, to_target.interval) == (None, None)
    assert to_target.seconds == to_target.reference_seconds is not None


def test_paces_that_differ_between_seeds_widen_the_interval_at_equal_numbers() -> None:
    """By the factor of the paces in each resample: the tokens of all prompts are the same."""
    records = [record for seed in (0, 1) for method in METHODS for record in seeded(method, seed)]
    cells = {record.cell: 4.0 for record in records}
    steady = at_k_of("best_first", records, cells)
    assert steady.interval == pytest.approx((1.0, 1.0))
    cells = {cell: 2.0 + 4.0 * cell.seed for cell in cells if cell.method != "parallel"} | {
        cell: 4.0 for cell in cells if cell.method == "parallel"
    }
    unsteady = at_k_of("best_first", records, cells)
    assert unsteady.ratio == pytest.approx(1.0)
    assert unsteady.interval is not None
    assert 0.5 < unsteady.interval[0] < 1 < unsteady.interval[1] < 1.5


def at_k_of(method: str, records: list[PromptRecord], seconds: Mapping[Cell, float]) -> SecondsAtK:
    (row,) = (row for row in seconds_at_k(records, seconds) if row.method.startswith(method))
    return row


def test_a_run_without_times_is_refused() -> None:
    records = seeded("parallel", 0) + seeded("best_first", 0)
    with pytest.raises(StoreError, match="have no times"):
        compared(records, {("parallel", 0): 4.0, ("best_first", 0): 0.0})


def test_a_run_is_read_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = sample_run.plan(
        methods=("parallel", "best_first"),
        max_sequences=(20,),
        parallel_sequences=20,
        num_prompts=9,
    )
    write_header(tmp_path, sample_run.header(plan))
    records = [replace(record, elapsed=2.0) for record in sample_run.run_records(plan)]
    (tmp_path / "results.jsonl").write_text("".join(to_line(r.to_json()) for r in records))
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "pass@16" in said
    assert "best_first" in said
    assert "share of its seconds" in said
    own = [line.split() for line in said.splitlines() if line.startswith("parallel")]
    assert [line[-1] for line in own] == ["–", "–"], "it is not compared with itself"
    assert (tmp_path / "seconds.json").exists()
    assert main([str(tmp_path / "none")]) == 2
    few = sample_run.plan(
        methods=("parallel",), max_sequences=(15,), parallel_sequences=15, num_prompts=9
    )
    with pytest.raises(StoreError, match="parallel has 15 sequences"):
        list(seconds_to_targets(sample_run.run_records(few), {}))
