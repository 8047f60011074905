"""The report on the prompts of a task: all rules, or the rules chosen on other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.laboratory.choosing import Chosen, choose, compare_rules, halves
from evals.laboratory.figures import RuleFigures
from evals.laboratory.outcome import PlaySetting
from evals.laboratory.rules import Rule
from evals.laboratory.samples import Prompts, TaskName

__all__ = ["PlayOptions", "TaskReport", "compare", "split", "transfer"]


@dataclass(frozen=True)
class PlayOptions:
    """How the rules of a command are to be played.

    Attributes:
        max_sequences: M; None for the number of samples that every prompt has.
        num_resamples: R, orders of each prompt.
        seed: of the orders, and of halves.
    """

    max_sequences: int | None
    num_resamples: int
    seed: int

    def setting(self, *sets: Prompts) -> PlaySetting:
        """The setting for some prompts.

        Raises:
            ValueError: a prompt has fewer samples, or there are no orders.
        """
        smallest = min(
            len(samples.recorded)
            for prompts in sets
            for of_temperature in prompts.values()
            for samples in of_temperature
        )
        number = self.max_sequences
        if number is not None and not 1 <= number <= smallest:
            raise ValueError(f"--max-sequences is {number}; the runs have {smallest} samples")
        if self.num_resamples < 1:
            raise ValueError(f"--resamples is {self.num_resamples}; it must be at least 1")
        return PlaySetting(number or smallest, self.num_resamples, self.seed)


@dataclass(frozen=True)
class TaskReport:
    """The rules of a command on the prompts of a task.

    Attributes:
        task, model: its name (`TaskName`).
        num_prompts: that the figures are over.
        setting: how the rules were played.
        figures: of all rules, Full Parallel first; empty where rules were chosen.
        num_choosing: prompts that rules were chosen on; 0 without.
        chosen: the rules that were chosen, Full Parallel first.
    """

    task: str
    model: str | None
    num_prompts: int
    setting: PlaySetting
    figures: tuple[RuleFigures, ...] = ()
    num_choosing: int = 0
    chosen: tuple[Chosen, ...] = ()

    @property
    def name(self) -> TaskName:
        """Of the task."""
        return TaskName(self.task, self.model)


def compare(
    task: TaskName, rules: Sequence[Rule], prompts: Prompts, options: PlayOptions
) -> TaskReport:
    """All rules on all prompts."""
    setting = options.setting(prompts)
    figures = tuple(figures for _, figures in compare_rules(rules, prompts, setting))
    return TaskReport(*task, _number(prompts), setting, figures)


def split(
    task: TaskName,
    rules: Sequence[Rule],
    prompts: Prompts,
    options: PlayOptions,
    *,
    tolerance: float,
) -> TaskReport:
    """Rules chosen on a half of the prompts, and shown on the other."""
    parts = halves(next(iter(prompts.values())), options.seed)
    if not all(parts):
        raise ValueError(f"{task} has {_number(prompts)} prompts; --split needs at least 2")
    choosing, showing = (
        {t: [samples[index] for index in part] for t, samples in prompts.items()} for part in parts
    )
    return transfer(task, rules, choosing, showing, options, tolerance=tolerance)


def transfer(
    task: TaskName,
    rules: Sequence[Rule],
    choosing: Prompts,
    showing: Prompts,
    options: PlayOptions,
    *,
    tolerance: float,
) -> TaskReport:
    """Rules chosen on some prompts, and shown on others.

    Raises:
        ValueError: the prompts were run at different temperatures.
    """
    if choosing.keys() != showing.keys():
        given = " and ".join(", ".join(f"{t:g}" for t in sorted(p)) for p in (choosing, showing))
        raise ValueError(f"the runs of {task} to choose and to show have τ = {given}")
    setting = options.setting(choosing, showing)
    chosen = tuple(choose(rules, choosing, showing, setting, tolerance))
    numbers = _number(showing), _number(choosing)
    return TaskReport(*task, numbers[0], setting, num_choosing=numbers[1], chosen=chosen)


def _number(prompts: Prompts) -> int:
    return len(next(iter(prompts.values())))
