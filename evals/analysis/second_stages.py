"""`restart` against `resume` where a run has both after the same first stage.

They are compared prompt by prompt at equal extra sequences: the first n of either in the order of
opening, where n is the smaller number of the two. Their cost is the tokens that they added to the
tree; discarded tokens are not known by sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from evals.analysis.curves import added_tokens
from evals.analysis.groups import RecordGroup
from evals.analysis.intervals import MIN_PROMPTS, mean_interval
from evals.analysis.matching import CONFIDENCE
from evals.analysis.metrics import coverage
from evals.records.plan import RESTART, RESUME, Cell
from evals.records.record import PromptRecord, SequenceRecord

__all__ = ["StageTwoContrast", "contrast_second_stages", "contrast_sentence"]


@dataclass(frozen=True)
class StageTwoContrast:
    """A rule at one M, θ and temperature, with either kind of extra sequences.

    Attributes:
        cell: that of restart and the first seed.
        num_prompts: with extra sequences of both kinds, counted for each seed.
        num_extra: sequences that are compared on either side.
        restart_tokens, resume_tokens: added to the tree per extra sequence; None without any.
        restart_gain, resume_gain: what the extra sequences add to Pass@M, mean over all prompts.
        difference: resume minus restart, of the gains.
        interval: 95 % paired bootstrap interval of it over prompts, with an unseen run
            (`evals.analysis.intervals`); None where fewer than 10 had extra sequences.
    """

    cell: Cell
    num_prompts: int
    num_extra: int
    restart_tokens: float | None
    resume_tokens: float | None
    restart_gain: float
    resume_gain: float
    difference: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class _Extra:
    """Some of the extra sequences of a prompt."""

    number: int
    tokens: int
    gain: float


def contrast_second_stages(groups: Iterable[RecordGroup]) -> tuple[StageTwoContrast, ...]:
    """One for every setting of a sweep where both were run, over the prompts that both have."""
    by_cell = {group.cell: group for group in groups}
    contrasts = (
        _contrast(by_cell[cell._replace(stage_two=RESTART)], group)
        for cell, group in by_cell.items()
        if cell.stage_two == RESUME and cell._replace(stage_two=RESTART) in by_cell
    )
    return tuple(contrast for contrast in contrasts if contrast is not None)


def _contrast(restart: RecordGroup, resume: RecordGroup) -> StageTwoContrast | None:
    """None where no prompt has both."""
    shared = restart.shared_with(resume)
    if shared is None:
        return None
    restart, resume = shared
    prompts = [
        [_equally_many(*pair) for pair in zip(records, resume.prompts[name], strict=True)]
        for name, records in restart.prompts.items()
    ]
    gains = np.array([np.mean([[s.gain for s in run] for run in runs], axis=0) for runs in prompts])
    numbers = [extra.number for runs in prompts for extra, _ in runs]
    num_extra, num_prompts = sum(numbers), sum(number > 0 for number in numbers)
    tokens = [
        sum(run[side].tokens for runs in prompts for run in runs) / num_extra if num_extra else None
        for side in (0, 1)
    ]
    difference = gains[:, 1] - gains[:, 0]
    return StageTwoContrast(
        cell=restart.cell,
        num_prompts=num_prompts,
        num_extra=num_extra,
        restart_tokens=tokens[0],
        resume_tokens=tokens[1],
        restart_gain=float(gains[:, 0].mean()),
        resume_gain=float(gains[:, 1].mean()),
        difference=float(difference.mean()),
        interval=mean_interval(difference, restart.num_seeds, CONFIDENCE)
        if num_prompts >= MIN_PROMPTS
        else None,
    )


def _equally_many(restart: PromptRecord, resume: PromptRecord) -> tuple[_Extra, _Extra]:
    """Of both records of a prompt and seed, as many extra sequences as both have."""
    number = min(len(_stage(restart, 2)), len(_stage(resume, 2)))
    return _first_extra(restart, number), _first_extra(resume, number)


def _first_extra(record: PromptRecord, number: int) -> _Extra:
    chosen = _stage(record, 2)[:number]
    before = coverage([sequence.correct for sequence in _stage(record, 1)])
    gain = max(before, coverage([sequence.correct for sequence in chosen])) - before
    return _Extra(number, sum(map(added_tokens, chosen)), gain)


def _stage(record: PromptRecord, stage: int) -> list[SequenceRecord]:
    return [sequence for sequence in record.sequences if sequence.stage == stage]


def contrast_sentence(contrast: StageTwoContrast) -> str:
    """The contrast as a sentence under the table."""
    label = contrast.cell.label()
    if contrast.restart_tokens is None or contrast.resume_tokens is None:
        return f"{label}, restart against resume: nothing to compare."
    interval = contrast.interval
    few = f" (under {MIN_PROMPTS} prompts: undecided)"
    spread = f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else few
    return (
        f"{label}, restart → resume at {contrast.num_extra} extra sequences each on "
        f"{contrast.num_prompts} prompts: {contrast.restart_tokens:.1f} → "
        f"{contrast.resume_tokens:.1f} tokens per extra sequence; pass gained "
        f"{contrast.restart_gain:+.3f} → {contrast.resume_gain:+.3f}, difference "
        f"{contrast.difference:+.3f}{spread}."
    )
