"""Each failure sign is named where it shows, and only there."""

from dataclasses import replace

import pytest

from evals.diagnostics import diagnose, ends_in_a_loop
from evals.store import PromptRecord
from tests.evals.build import record


@pytest.mark.parametrize("unit", [[7], [1, 2], [1, 2, 3, 4, 5, 6, 7]])
def test_a_repeated_end_is_a_loop(unit):
    assert ends_in_a_loop([9, 8, 7, *unit * 30])


def test_ordinary_ends_are_not():
    assert not ends_in_a_loop(list(range(500)))
    assert not ends_in_a_loop([1, 2, 3] * 6)
    assert not ends_in_a_loop([])
    assert not ends_in_a_loop([*[7] * 60, 8])


def cut_short(prompt: PromptRecord, token_ids: tuple[int, ...]) -> PromptRecord:
    sequences = [replace(s, token_ids=token_ids, finish_reason="length") for s in prompt.sequences]
    return replace(prompt, sequences=tuple(sequences))


def test_a_healthy_run_has_nothing_to_say():
    records = [record([True] * n, method="eager_init", max_sequences=8) for n in (1, 3, 5, 8)]
    assert diagnose(records) == []


def test_hardly_any_branch_says_that_theta_is_too_high():
    (said,) = diagnose([record([True], method="eager_init", max_sequences=8)] * 10)
    assert "10 of 10 prompts ended with one or two sequences; θ is too high" in said


def test_every_combination_of_a_sweep_is_looked_at():
    plain = [record([True], method="eager_init", max_sequences=1)] * 10
    high = [record([True], method="eager_init", max_sequences=8, threshold=2.5)] * 10
    low = [record([True] * 8, method="eager_init", max_sequences=8, threshold=0.05)] * 10
    too_high, too_low = diagnose([*plain, *high, *low])
    assert "θ = 2.5" in too_high
    assert "too high" in too_high
    assert "θ = 0.05" in too_low
    assert "too low" in too_low


def test_saturation_everywhere_says_that_theta_is_too_low():
    (said,) = diagnose([record([True] * 8, method="eager_init", max_sequences=8)] * 10)
    assert "10 of 10 prompts reached M; θ is too low" in said
    assert diagnose([record([True] * 8, method="parallel", max_sequences=8)] * 10) == []


def test_loops_and_cut_sequences_are_counted_apart():
    records = [cut_short(record([False] * 4), (1, 2) * 40), cut_short(record([False] * 4), (1, 2))]
    loops, cut = diagnose(records)
    assert "4 of 8 sequences end in a repetition" in loops
    assert "8 of 8 sequences were cut" in cut
