"""Each failure sign is named where it shows, and only there."""

from dataclasses import replace
from typing import Any

import pytest

from evals.analysis.diagnostics import diagnose, ends_in_a_loop
from evals.records.record import PromptRecord
from tests.evals.fakes.build import record


@pytest.mark.parametrize("unit", [[7], [1, 2], [1, 2, 3, 4, 5, 6, 7]])
def test_a_repeated_end_is_a_loop(unit: list[int]) -> None:
    assert ends_in_a_loop([9, 8, 7, *unit * 30])


def test_ordinary_ends_are_not() -> None:
    assert not ends_in_a_loop(list(range(500)))
    assert not ends_in_a_loop([1, 2, 3] * 6)
    assert not ends_in_a_loop([])
    assert not ends_in_a_loop([*[7] * 60, 8])


def cut_short(prompt: PromptRecord, token_ids: tuple[int, ...]) -> PromptRecord:
    sequences = [replace(s, token_ids=token_ids, finish_reason="length") for s in prompt.sequences]
    return replace(prompt, sequences=tuple(sequences))


def test_a_healthy_run_has_nothing_to_say() -> None:
    records = [record([True] * n, method="eager_init", max_sequences=8) for n in (1, 3, 5, 8)]
    assert diagnose(records) == []


def test_hardly_any_branch_says_that_theta_is_too_high() -> None:
    (said,) = diagnose([record([True], method="eager_init", max_sequences=8)] * 10)
    assert "10 of 10 prompts ended with one or two sequences; θ is too high" in said


def test_every_combination_of_a_sweep_is_looked_at() -> None:
    plain = [record([True], method="eager_init", max_sequences=1)] * 10
    high = [record([True], method="eager_init", max_sequences=8, threshold=2.5)] * 10
    low = [record([True] * 8, method="eager_init", max_sequences=8, threshold=0.05)] * 10
    too_high, too_low = diagnose([*plain, *high, *low])
    assert "θ=2.5" in too_high
    assert "too high" in too_high
    assert "θ=0.05" in too_low
    assert "too low" in too_low


def test_saturation_everywhere_says_that_theta_is_too_low() -> None:
    (said,) = diagnose([record([True] * 8, method="eager_init", max_sequences=8)] * 10)
    assert "10 of 10 prompts reached M; θ is too low" in said
    assert diagnose([record([True] * 8, method="parallel", max_sequences=8)] * 10) == []


def test_loops_and_cut_sequences_are_counted_apart() -> None:
    records = [cut_short(record([False] * 4), (1, 2) * 40), cut_short(record([False] * 4), (1, 2))]
    loops, cut = diagnose(records)
    assert "4 of 8 sequences end in a repetition" in loops
    assert "8 of 8 sequences were cut" in cut


def ended(number: int, **fields: Any) -> list[PromptRecord]:
    """Sequences that were not cut, four to a prompt, with what follows their reasoning."""
    made = record([False] * number)
    return [replace(made, sequences=tuple(replace(s, **fields) for s in made.sequences))]


OPEN: dict[str, Any] = {"text": "1 + 1 is 2", "final_text": "1 + 1 is 2"}
CLOSED: dict[str, Any] = {"text": "1 + 1</think>2", "final_text": "2"}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (ended(8, **OPEN), "none of 8 sequences closed its reasoning with '</think>'"),
        (ended(100, **OPEN) + ended(2, **CLOSED), "only 2 of 102 sequences closed its reasoning"),
        (ended(100, **OPEN) + ended(3, **CLOSED), None),
        (ended(7, **OPEN), None),
        (ended(20, **CLOSED), None),
        (ended(20, **OPEN, finish_reason="length", token_ids=(1, 2)), None),
        (ended(20, text="unknown", final_text=None), None),
    ],
)
def test_reasoning_that_no_sequence_closes_is_a_sign(
    records: list[PromptRecord], said: str | None
) -> None:
    signs = [sign for sign in diagnose(records, "</think>") if "closed its reasoning" in sign]
    assert len(signs) == (said is not None)
    assert all(said is not None and said in sign for sign in signs)
    assert not [sign for sign in diagnose(records, None) if "closed its reasoning" in sign]


NO_BOX: dict[str, Any] = {"answer": None, "explanation": "no \\boxed{} in the text"}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (ended(8, **NO_BOX), "none of 8 sequences gave an answer of the form that the task asks"),
        (ended(8, **NO_BOX), "(8: no \\boxed{} in the text)"),
        (ended(99, **NO_BOX) + ended(1), "only 1 of 100 sequences gave an answer of the form"),
        (ended(95, **NO_BOX) + ended(5), None),
        (ended(7, **NO_BOX), None),
        (ended(20), None),
        (ended(20, **NO_BOX, status="unjudged"), None),
        (ended(20, **NO_BOX, finish_reason="length", token_ids=(1, 2)), None),
    ],
)
def test_answers_that_nobody_gives_are_a_sign(
    records: list[PromptRecord], said: str | None
) -> None:
    signs = [sign for sign in diagnose(records) if "gave an answer" in sign]
    assert len(signs) == (said is not None)
    assert all(said is not None and said in sign for sign in signs)
