"""Rules compared on prompts, and rules chosen on some prompts and shown on others.

Of the rules of a kind, which differ in numbers and temperature alone, the cheapest is chosen that
is as accurate as the reference; where none is, the most accurate. The reference is Full Parallel
with M sequences at the temperature at which it is the most accurate.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from evals.laboratory.figures import RuleFigures, figures_of
from evals.laboratory.outcome import PlaySetting, RuleOutcome, play_rules
from evals.laboratory.rules import Rule
from evals.laboratory.samples import Prompts, Samples

__all__ = ["Chosen", "choose", "compare_rules", "halves"]

FULL_PARALLEL = Rule("parallel")


@dataclass(frozen=True)
class Chosen:
    """A rule that was chosen.

    Attributes:
        kind: the names of its parts.
        choosing: its figures on the prompts that it was chosen on.
        figures: on those that it is shown on.
        is_reached: whether it was as accurate as the reference on the former.
    """

    kind: tuple[str, ...]
    choosing: RuleFigures
    figures: RuleFigures
    is_reached: bool


def compare_rules(
    rules: Sequence[Rule], prompts: Prompts, setting: PlaySetting
) -> list[tuple[Rule, RuleFigures]]:
    """All rules at all temperatures, the reference first."""
    every = [FULL_PARALLEL, *(rule for rule in rules if rule != FULL_PARALLEL)]
    played = {
        temperature: play_rules(every, samples, setting, samples)
        for temperature, samples in prompts.items()
    }
    best = max(played, key=lambda temperature: _rank(played[temperature][0]))
    return [
        (outcome.rule, figures_of(outcome, temperature, played[best][0]))
        for temperature in (best, *(t for t in played if t != best))
        for outcome in played[temperature]
    ]


def _rank(outcome: RuleOutcome) -> tuple[float, float]:
    """Of Full Parallel at a temperature: the more accurate one, then the cheaper one."""
    return float(outcome.accuracy.mean()), -float(outcome.tokens.mean())


def choose(
    rules: Sequence[Rule],
    choosing: Prompts,
    showing: Prompts,
    setting: PlaySetting,
    tolerance: float,
) -> list[Chosen]:
    """The reference, then the chosen rule of each kind.

    Args:
        choosing, showing: have the same temperatures.
        tolerance: by how much a rule's accuracy may be below that of the reference.
    """
    compared = compare_rules(rules, choosing, setting)
    target = compared[0][1].accuracy - tolerance
    kinds: dict[tuple[str, ...], list[tuple[Rule, RuleFigures]]] = {("reference",): compared[:1]}
    for rule, figures in compared[1:]:
        kinds.setdefault(rule.kind, []).append((rule, figures))
    best = {kind: _best(of_kind, target) for kind, of_kind in kinds.items()}
    shown = _shown(list(best.values()), choosing, showing, setting)
    return [
        Chosen(kind, figures, figures_on_others, figures.accuracy >= target)
        for (kind, (_, figures)), figures_on_others in zip(best.items(), shown, strict=True)
    ]


def _best(of_kind: Sequence[tuple[Rule, RuleFigures]], target: float) -> tuple[Rule, RuleFigures]:
    reaching = [pair for pair in of_kind if pair[1].accuracy >= target]
    if reaching:
        return min(reaching, key=lambda pair: pair[1].tokens)
    return max(of_kind, key=lambda pair: (pair[1].accuracy, -pair[1].tokens))


def _shown(
    chosen: Sequence[tuple[Rule, RuleFigures]],
    choosing: Prompts,
    showing: Prompts,
    setting: PlaySetting,
) -> list[RuleFigures]:
    """The chosen rules on other prompts, against the first of them."""
    outcomes: dict[tuple[Rule, float], RuleOutcome] = {}
    for temperature, samples in showing.items():
        rules = [rule for rule, figures in chosen if figures.temperature == temperature]
        rules = list(dict.fromkeys(rules))
        for outcome in play_rules(rules, samples, setting, choosing[temperature]):
            outcomes[outcome.rule, temperature] = outcome
    keys = [(rule, figures.temperature) for rule, figures in chosen]
    return [figures_of(outcomes[key], key[1], outcomes[keys[0]]) for key in keys]


def halves(samples: Sequence[Samples], seed: int) -> tuple[list[int], list[int]]:
    """Indices of a random half of the prompts of each level, and of the rest."""
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda index: str(samples[index].level))
    return sorted(order[::2]), sorted(order[1::2])
