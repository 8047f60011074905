"""Restart against resume: the same prompts, equally many extra sequences."""

from dataclasses import replace

import pytest

from evals.analysis.groups import group_records
from evals.analysis.second_stages import contrast_second_stages, contrast_sentence
from evals.records.record import PromptRecord, SequenceRecord, StageTwo
from evals.report.summarise import summarise_run
from tests.evals.fakes import sample_run
from tests.evals.fakes.build import BRANCH, record

PLAN = sample_run.plan(methods=("eager",), stage_twos=("restart", "resume"), num_prompts=2)


def extra(num_tokens: int, *, correct: bool, resumed: bool) -> SequenceRecord:
    """An extra sequence that leaves another after 10 tokens, or starts from the prompt."""
    (base,) = record([correct]).sequences
    shared = 10 if resumed else 0
    return replace(
        base,
        stage=2,
        token_ids=tuple(range(shared + num_tokens)),
        parent=0 if resumed else None,
        branch=replace(BRANCH, position=10) if resumed else None,
    )


def line(how: str, sample_id: str, *extras: tuple[int, bool], solved: bool = False) -> PromptRecord:
    first = record([solved])
    sequences = [
        extra(num_tokens, correct=correct, resumed=how == "resume")
        for num_tokens, correct in extras
    ]
    return replace(
        first,
        method="eager",
        sample_id=sample_id,
        threshold=0.7,
        sequences=(*first.sequences, *sequences),
        stage_two=StageTwo(how, bool(extras), len(extras), len(extras), 0.7),
    )


def test_only_as_many_as_both_have_are_compared() -> None:
    records = [
        line("restart", "a", (40, False), (50, True), (60, True)),
        line("resume", "a", (20, True)),
        line("restart", "b", solved=True),
        line("resume", "b", solved=True),
    ]
    (contrast,) = contrast_second_stages(group_records(records, PLAN))
    assert (contrast.num_prompts, contrast.num_extra) == (1, 1)
    assert (contrast.restart_tokens, contrast.resume_tokens) == (40, 20)
    assert (contrast.restart_gain, contrast.resume_gain) == (0, 0.5)
    assert contrast.difference == pytest.approx(0.5)
    assert contrast.interval is None, "one prompt decides nothing"
    sentence = contrast_sentence(contrast)
    assert "1 extra sequences each on 1 prompts: 40.0 → 20.0 tokens" in sentence
    assert "+0.000 → +0.500, difference +0.500 (under 10 prompts: undecided)" in sentence


def test_what_was_solved_before_gains_nothing() -> None:
    records = [
        line("restart", "a", (40, True), solved=True),
        line("resume", "a", (20, True), solved=True),
    ]
    (contrast,) = contrast_second_stages(group_records(records, PLAN))
    assert (contrast.restart_gain, contrast.resume_gain) == (0, 0)


def test_without_both_there_is_nothing_to_say() -> None:
    assert contrast_second_stages(group_records([line("resume", "a", (3, True))], PLAN)) == ()
    nothing = [line("restart", "a"), line("resume", "a", (3, True))]
    (contrast,) = contrast_second_stages(group_records(nothing, PLAN))
    assert contrast.restart_tokens is None
    assert "nothing to compare" in contrast_sentence(contrast)


def test_an_interval_covers_what_was_not_seen() -> None:
    """Twelve prompts of which one gained: a resample never shows a loss, but there may be one."""
    records = []
    for number in range(12):
        gains = number == 0
        records += [
            line("restart", str(number), (40, False)),
            line("resume", str(number), (20, gains)),
        ]
    (contrast,) = contrast_second_stages(group_records(records, PLAN))
    assert contrast.interval is not None
    low, high = contrast.interval
    assert -(1 - 0.025 ** (1 / 12)) < low < -0.2
    assert high > contrast.difference == pytest.approx(1 / 12)


def test_seeds_are_paired_with_their_own() -> None:
    records = [
        replace(line("restart", "a", (40, True)), seed=0),
        replace(line("restart", "a"), seed=1),
        replace(line("resume", "a"), seed=0),
        replace(line("resume", "a", (20, True)), seed=1),
    ]
    (contrast,) = contrast_second_stages(group_records(records, PLAN))
    assert (contrast.num_extra, contrast.restart_gain, contrast.resume_gain) == (0, 0, 0)


def test_a_partial_second_stage_is_not_compared() -> None:
    records = [line(how, "a", (40, True)) for how in ("restart", "resume")]
    first = record([False], method="eager_init", threshold=0.7)
    plan = sample_run.plan(methods=("eager",), stage_twos=("restart", "resume"), num_prompts=1)
    whole = summarise_run(sample_run.header(plan), [first, *records], plan, {})
    assert len(whole.stage_two_contrasts) == 1
    plan = replace(plan, num_prompts=2)
    part = summarise_run(sample_run.header(plan), [first, *records], plan, {})
    assert part.stage_two_contrasts == ()
