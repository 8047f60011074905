"""Where a method does not win, as plainly as where it does: sentences under the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["budget_findings", "level_names", "needed_findings"]

Found = dict[str, Any]

VISIBLY_MORE = 1.005
"""A ratio that two digits tell from 1; where all sequences are right, all methods need one."""
VISIBLY_LESS = 0.0005
"""A difference in pass that three digits tell from 0."""


def level_names(levels: Sequence[int | None]) -> str:
    """As tables and sentences call the prompts of some levels."""
    if None in levels:
        return "all prompts"
    return f"level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))}"


def needed_findings(needed: Iterable[Found]) -> list[str]:
    """For each method and reference, where it does not need fewer tokens for the same pass."""
    kinds: dict[str, Callable[[Found], bool]] = {
        "more tokens": lambda n: n["ratio"] is not None and n["ratio"] >= VISIBLY_MORE,
        "pass not reached": lambda n: n["tokens"] is None,
        "pass not reached by the reference": lambda n: (
            n["tokens"] is not None and n["reference_tokens"] is None
        ),
        "undecided (the interval includes 1)": _is_undecided,
    }
    groups: dict[str, list[Found]] = {}
    for each in needed:
        if each["method"] != each["reference"] and each["target"] > 0:
            groups.setdefault(f"{each['method']} against {each['reference']}", []).append(each)
    return [
        _sentence(name, own, kinds, _target, "nowhere more tokens") for name, own in groups.items()
    ]


def _target(needed: Found) -> str:
    ratio = "" if needed["ratio"] is None else f" ({needed['ratio']:.2f})"
    return f"pass@{needed['k']}{ratio}"


def _is_undecided(needed: Found) -> bool:
    if needed["ratio"] is None or needed["ratio"] >= VISIBLY_MORE:
        return False
    low, high = needed["interval"]
    return bool(low <= 1 <= high and high - low > VISIBLY_MORE - 1)


def budget_findings(budgets: Iterable[Found]) -> list[str]:
    """For each search and EAGer-init, at which of its budgets the search is not ahead."""
    kinds: dict[str, Callable[[Found], bool]] = {
        "behind": lambda b: b["difference"] <= -VISIBLY_LESS,
        "undecided (the interval includes 0)": lambda b: (
            b["difference"] > -VISIBLY_LESS and b["interval"][0] <= 0 < b["interval"][1]
        ),
    }
    groups: dict[str, list[Found]] = {}
    for each in budgets:
        name = f"{each['search']} against {each['online']} at equal tokens"
        groups.setdefault(name, []).append(each)
    return [
        _sentence(name, own, kinds, _budget, "ahead everywhere") for name, own in groups.items()
    ]


def _budget(budget: Found) -> str:
    return f"M={budget['max_sequences']} ({budget['difference']:+.3f})"


def _sentence(
    name: str,
    found: Sequence[Found],
    kinds: dict[str, Callable[[Found], bool]],
    target: Callable[[Found], str],
    otherwise: str,
) -> str:
    most = max(len(each["levels"]) for each in found)
    parts = []
    for kind, holds in kinds.items():
        places: dict[str, list[str]] = {}
        for each in filter(holds, found):
            places.setdefault(_where(each["levels"], most), []).append(target(each))
        if places:
            own = (f"{where} {', '.join(targets)}" for where, targets in places.items())
            parts.append(f"{kind} at {', '.join(own)}")
    return f"{name}: {'; '.join(parts) or otherwise}."


def _where(levels: Sequence[int | None], most: int) -> str:
    return "all" if None in levels or len(levels) == most > 1 else level_names(levels)
