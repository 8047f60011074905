"""Where a method does not win, as plainly as where it does: sentences under the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from evals.comparison.budgets import AtBudget
from evals.comparison.needed import Needed

__all__ = ["budget_findings", "needed_findings"]

Compared = TypeVar("Compared", Needed, AtBudget)

VISIBLY_MORE = 1.005
"""A ratio that two digits distinguish from 1; if all sequences are right, all methods need one."""
VISIBLY_LESS = 0.0005
"""A difference in pass that three digits distinguish from 0."""


def needed_findings(needed: Iterable[Needed]) -> Iterator[str]:
    """For each method and reference, where it does not need fewer tokens for the same pass."""
    groups: dict[str, list[Needed]] = {}
    for pair in needed:
        if pair.method != pair.reference and pair.target > 0:
            groups.setdefault(f"{pair.method} against {pair.reference}", []).append(pair)
    for name, group in groups.items():
        yield _sentence(name, group, NEEDED_KINDS, _needed_point, "nowhere more tokens")


def _needs_more(needed: Needed) -> bool:
    return needed.ratio is not None and needed.ratio >= VISIBLY_MORE


def _is_undecided(needed: Needed) -> bool:
    if needed.interval is None or _needs_more(needed):
        return False
    low, high = needed.interval
    return low <= 1 <= high and high - low > VISIBLY_MORE - 1


NEEDED_KINDS: Mapping[str, Callable[[Needed], bool]] = {
    "more tokens": _needs_more,
    "pass not reached": lambda needed: needed.tokens is None,
    "pass not reached by the reference": lambda needed: (
        needed.tokens is not None and needed.reference_tokens is None
    ),
    "undecided (the interval includes 1)": _is_undecided,
}


def _needed_point(needed: Needed) -> str:
    ratio = "" if needed.ratio is None else f" ({needed.ratio:.2f})"
    return f"pass@{needed.k}{ratio}"


def budget_findings(budgets: Iterable[AtBudget]) -> Iterator[str]:
    """For each search and EAGer-init, at which of its budgets the search is not ahead."""
    groups: dict[str, list[AtBudget]] = {}
    for budget in budgets:
        name = f"{budget.search} against {budget.online} at equal tokens"
        groups.setdefault(name, []).append(budget)
    for name, group in groups.items():
        yield _sentence(name, group, BUDGET_KINDS, _budget_point, "ahead everywhere")


BUDGET_KINDS: Mapping[str, Callable[[AtBudget], bool]] = {
    "behind": lambda budget: budget.difference <= -VISIBLY_LESS,
    "undecided (the interval includes 0)": lambda budget: (
        budget.difference > -VISIBLY_LESS and budget.interval[0] <= 0 < budget.interval[1]
    ),
}


def _budget_point(budget: AtBudget) -> str:
    return f"M={budget.max_sequences} ({budget.difference:+.3f})"


def _sentence(
    name: str,
    group: Sequence[Compared],
    kinds: Mapping[str, Callable[[Compared], bool]],
    point: Callable[[Compared], str],
    otherwise: str,
) -> str:
    """The points of each kind, level by level.

    Args:
        otherwise: for a group without a point of any kind.
    """
    num_levels = max(len(compared.levels) for compared in group)
    clauses = []
    for kind, holds in kinds.items():
        points: dict[str, list[str]] = {}
        for compared in filter(holds, group):
            levels = _level_names(compared.levels, num_levels)
            points.setdefault(levels, []).append(point(compared))
        if points:
            listed = (f"{levels} {', '.join(texts)}" for levels, texts in points.items())
            clauses.append(f"{kind} at {', '.join(listed)}")
    return f"{name}: {'; '.join(clauses) or otherwise}."


def _level_names(levels: Sequence[int | None], num_levels: int) -> str:
    """`all`, `level 2` or `levels 2, 3`."""
    if None in levels or len(levels) == num_levels > 1:
        return "all"
    return f"level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))}"
