"""Rules played on the prompts of runs: means over the orders of each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eager_sgl.signals import Floats
from evals.laboratory.budgets import last_rounds, rounds_of
from evals.laboratory.cutting import calibrated_floor
from evals.laboratory.draws import Draws, draw
from evals.laboratory.play import Played, play, right
from evals.laboratory.rules import Rule
from evals.laboratory.samples import Samples

__all__ = ["PlaySetting", "RuleOutcome", "play_rules"]

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class PlaySetting:
    """How rules are played.

    Attributes:
        max_sequences: M.
        num_resamples: R, orders of each prompt.
        seed: of the orders.
    """

    max_sequences: int
    num_resamples: int
    seed: int


@dataclass(frozen=True)
class RuleOutcome:
    """A rule on P prompts; float64 [P], means over the orders of each.

    Attributes:
        accuracy: chance that the winner of the votes is right.
        tokens: that the prompt's samples cost.
        sequences: number of samples that start.
        steps: until the decision; NaN where prompts wait for each other.
        num_cut: samples that are cut.
        lost, gained: chance that the winner is wrong, and right, where without cuts and filters
            it is the reverse.
        changed: chance that it is another one.
    """

    rule: Rule
    accuracy: Floats
    tokens: Floats
    sequences: Floats
    steps: Floats
    num_cut: Floats
    changed: Floats
    lost: Floats
    gained: Floats


def play_rules(
    rules: Sequence[Rule],
    prompts: Sequence[Samples],
    setting: PlaySetting,
    calibrating: Sequence[Samples],
) -> list[RuleOutcome]:
    """Play rules on the same orders of each prompt.

    Args:
        calibrating: prompts whose samples calibrate floors; a prompt never calibrates its own.

    Raises:
        ValueError: a rule needs values that a prompt's samples do not have.
    """
    for rule in rules:
        _require_known(rule, prompts)
    alone = [rule for rule in rules if rule.budget is None]
    columns: dict[Rule, list[Floats]] = {rule: [] for rule in alone}
    for samples in prompts:
        draws = draw(samples, setting.max_sequences, setting.num_resamples, setting.seed)
        for rule in alone:
            floor = _floor(rule, samples, calibrating)
            columns[rule].append(_means(rule, draws, floor))
    outcomes = {rule: RuleOutcome(rule, *np.array(means).T) for rule, means in columns.items()}
    for rule in rules:
        if rule.budget is not None:
            outcomes[rule] = _shared(rule, prompts, setting, calibrating)
    return [outcomes[rule] for rule in rules]


def _require_known(rule: Rule, prompts: Sequence[Samples]) -> None:
    for samples in prompts:
        if rule.needs_columns and not samples.has_confidences:
            raise ValueError(
                f"{rule.text} looks at values of tokens; {samples.sample_id} has none; record a "
                "run with --methods parallel --record"
            )
        if rule.needs_logprobs and np.isnan(samples.logprobs).any():
            raise ValueError(
                f"{rule.text} looks at the probabilities of sequences, which {samples.sample_id} "
                "lacks; record a run with --methods parallel --record"
            )


def _floor(rule: Rule, samples: Samples, calibrating: Sequence[Samples]) -> float | None:
    if not rule.is_calibrated:
        return None
    assert rule.cutting is not None, f"{rule.text} does not cut"
    others = [other for other in calibrating if other.sample_id != samples.sample_id]
    if not others:
        raise ValueError(f"{rule.text} is calibrated on other prompts, and there are none")
    return calibrated_floor(others, rule.cutting)


def _means(rule: Rule, draws: Draws, floor: float | None) -> Floats:
    """The values of `RuleOutcome` of one prompt."""
    played = play(rule, draws, floor)
    is_right = right(draws, played.winners)
    whole, was_right = played, is_right
    if rule.cutting is not None or rule.filter is not None:
        without = replace(rule, text="", cutting=None, filter=None, is_calibrated=False)
        whole = draws.once(without, lambda: play(without, draws))
        was_right = right(draws, whole.winners)
    return np.array([np.mean(column) for column in _columns(played, whole, is_right, was_right)])


def _columns(
    played: Played, whole: Played, is_right: Flags, was_right: Flags
) -> Iterator[NDArray[np.bool_] | NDArray[np.int64]]:
    yield is_right
    yield from (played.tokens, played.num_started, played.steps, played.num_cut)
    yield played.winners != whole.winners
    yield was_right & ~is_right
    yield is_right & ~was_right


def _shared(
    rule: Rule, prompts: Sequence[Samples], setting: PlaySetting, calibrating: Sequence[Samples]
) -> RuleOutcome:
    """A rule whose prompts share their tokens."""
    assert rule.budget is not None, f"{rule.text} has no budget"
    courses = []
    for samples in prompts:
        draws = draw(samples, setting.max_sequences, setting.num_resamples, setting.seed)
        courses.append(rounds_of(rule, draws, _floor(rule, samples, calibrating)))
    parallel = sum(setting.max_sequences * float(samples.lengths.mean()) for samples in prompts)
    lasts = last_rounds(rule.budget, courses, parallel)
    rows = np.arange(lasts.shape[1])
    pairs = list(zip(courses, lasts, strict=True))
    unknown = np.full(len(prompts), np.nan)
    return RuleOutcome(
        rule,
        accuracy=np.array([c.is_right[rows, last].mean() for c, last in pairs]),
        tokens=np.array([c.tokens[rows, last].mean() for c, last in pairs]),
        sequences=np.array([c.sizes[last].mean() for c, last in pairs]),
        **dict.fromkeys(("steps", "num_cut", "changed", "lost", "gained"), unknown),
    )
