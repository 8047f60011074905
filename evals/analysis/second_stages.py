"""`restart` against `resume` where a run has both after the same first stage.

They are compared prompt by prompt at equal extra sequences: of each the first n in the order in
which they were opened, n being what the one with fewer has. Their cost is that of the tokens they
added to the tree; what was discarded on the way cannot be told apart by sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evals.analysis.groups import RecordGroup
from evals.analysis.intervals import FEWEST_PROMPTS, mean_interval
from evals.analysis.matching import CONFIDENCE
from evals.analysis.metrics import coverage
from evals.records.plan import RESTART, RESUME
from evals.records.store import PromptRecord, SequenceRecord

__all__ = ["StageTwoContrast", "contrast_second_stages", "contrast_sentence"]


@dataclass(frozen=True)
class StageTwoContrast:
    """A rule at one M, θ and temperature, with either kind of extra sequences.

    Attributes:
        num_prompts: that both gave extra sequences to, each seed's counted for itself.
        num_extra: sequences that are compared on either side.
        restart_tokens, resume_tokens: added to the tree per extra sequence; None without any.
        restart_gain, resume_gain: what the extra sequences add to Pass@M, mean over all prompts.
        difference: resume minus restart, of the gains.
        interval: 95 % paired bootstrap interval of it over prompts, with an unseen run
            (`evals.analysis.intervals`); None where fewer than 10 had extra sequences.
    """

    method: str
    max_sequences: int
    theta: float | None
    temperature: float
    num_prompts: int
    num_extra: int
    restart_tokens: float | None
    resume_tokens: float | None
    restart_gain: float
    resume_gain: float
    difference: float
    interval: tuple[float, float] | None


def contrast_second_stages(groups: Iterable[RecordGroup]) -> tuple[StageTwoContrast, ...]:
    """One for every place of a sweep where both were run, over the prompts that both have."""
    by_place = {group.place: group for group in groups}
    contrasts = (
        _contrast(by_place[place._replace(stage_two=RESTART)], group)
        for place, group in by_place.items()
        if place.stage_two == RESUME and place._replace(stage_two=RESTART) in by_place
    )
    return tuple(contrast for contrast in contrasts if contrast is not None)


def _contrast(restart: RecordGroup, resume: RecordGroup) -> StageTwoContrast | None:
    """None where no prompt has both."""
    both = {(r.sample_id, r.seed) for r in restart.records}
    both &= {(r.sample_id, r.seed) for r in resume.records}
    if not both:
        return None
    restart, resume = restart.restricted(both), resume.restricted(both)
    pairs = [
        [_equal(one, other) for one, other in _paired(records, resume.prompts[name])]
        for name, records in restart.prompts.items()
    ]
    gains = np.array([np.mean([[s.gain for s in pair] for pair in each], axis=0) for each in pairs])
    numbers = [pair[0].number for each in pairs for pair in each]
    num_extra, num_prompts = sum(numbers), sum(number > 0 for number in numbers)
    tokens = [
        sum(pair[side].tokens for each in pairs for pair in each) / num_extra if num_extra else None
        for side in (0, 1)
    ]
    difference = gains[:, 1] - gains[:, 0]
    num_seeds = min(map(len, pairs))
    return StageTwoContrast(
        method=restart.place.method,
        max_sequences=restart.place.max_sequences,
        theta=restart.place.threshold,
        temperature=restart.place.temperature,
        num_prompts=num_prompts,
        num_extra=num_extra,
        restart_tokens=tokens[0],
        resume_tokens=tokens[1],
        restart_gain=float(gains[:, 0].mean()),
        resume_gain=float(gains[:, 1].mean()),
        difference=float(difference.mean()),
        interval=mean_interval(difference, num_seeds, CONFIDENCE)
        if num_prompts >= FEWEST_PROMPTS
        else None,
    )


@dataclass(frozen=True)
class _Side:
    number: int
    tokens: int
    gain: float


def _paired(
    one: Sequence[PromptRecord], other: Sequence[PromptRecord]
) -> Iterable[tuple[PromptRecord, PromptRecord]]:
    """The records of the same seeds."""
    seeds = {record.seed: record for record in other}
    return [(record, seeds[record.seed]) for record in one]


def _equal(restart: PromptRecord, resume: PromptRecord) -> tuple[_Side, _Side]:
    """Both sides of a prompt with as many extra sequences."""
    number = min(len(_extra(restart)), len(_extra(resume)))
    return _side(restart, number), _side(resume, number)


def _extra(record: PromptRecord) -> list[SequenceRecord]:
    return [sequence for sequence in record.sequences if sequence.stage == 2]


def _side(record: PromptRecord, number: int) -> _Side:
    chosen = _extra(record)[:number]
    before = coverage([each.correct for each in record.sequences if each.stage == 1])
    gained = max(before, coverage([each.correct for each in chosen])) - before
    return _Side(number, sum(map(_added, chosen)), gained)


def _added(sequence: SequenceRecord) -> int:
    """Tokens that a sequence added to its tree."""
    return len(sequence.token_ids) - (sequence.branch.position if sequence.branch else 0)


def contrast_sentence(contrast: StageTwoContrast) -> str:
    """For under the table."""
    theta, temperature = f"{contrast.theta:g}", f"{contrast.temperature:g}"
    place = f"{contrast.method} (M={contrast.max_sequences}, θ={theta}, τ={temperature})"
    if contrast.restart_tokens is None or contrast.resume_tokens is None:
        return f"{place}, restart against resume: nothing to compare."
    interval = contrast.interval
    few = f" (under {FEWEST_PROMPTS} prompts: undecided)"
    spread = f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else few
    return (
        f"{place}, restart → resume at {contrast.num_extra} extra sequences each on "
        f"{contrast.num_prompts} prompts: {contrast.restart_tokens:.1f} → "
        f"{contrast.resume_tokens:.1f} tokens per extra sequence; pass gained "
        f"{contrast.restart_gain:+.3f} → {contrast.resume_gain:+.3f}, difference "
        f"{contrast.difference:+.3f}{spread}."
    )
