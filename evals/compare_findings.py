"""Where a method does not win, as plainly as where it does: sentences under the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["budget_findings", "level_names", "needed_findings"]

Found = dict[str, Any]


def level_names(levels: Sequence[int | None]) -> str:
    """As tables and sentences call the prompts of some levels."""
    if None in levels:
        return "all prompts"
    return f"level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))}"


def needed_findings(needed: Iterable[Found]) -> list[str]:
    """For each method and reference, where it does not need fewer tokens for the same pass."""
    kinds: dict[str, Callable[[Found], bool]] = {
        "more tokens": lambda n: n["ratio"] is not None and n["ratio"] > 1,
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
        _sentence(name, own, kinds, _target, "fewer tokens everywhere")
        for name, own in groups.items()
    ]


def _is_undecided(needed: Found) -> bool:
    if needed["ratio"] is None or needed["ratio"] > 1:
        return False
    low, high = needed["interval"]
    return bool(low <= 1 <= high)


def _target(needed: Found) -> str:
    ratio = "" if needed["ratio"] is None else f" ({needed['ratio']:.2f})"
    return f"{_where(needed)} pass@{needed['k']}{ratio}"


def budget_findings(budgets: Iterable[Found]) -> list[str]:
    """For each search and EAGer-init, at which of its budgets the search is not ahead."""
    kinds: dict[str, Callable[[Found], bool]] = {
        "behind": lambda b: b["difference"] < 0,
        "undecided (the interval includes 0)": lambda b: (
            b["difference"] >= 0 and b["interval"][0] <= 0
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
    return f"{_where(budget)} M={budget['max_sequences']} ({budget['difference']:+.3f})"


def _where(found: Found) -> str:
    return "all" if None in found["levels"] else level_names(found["levels"])


def _sentence(
    name: str,
    found: Sequence[Found],
    kinds: dict[str, Callable[[Found], bool]],
    place: Callable[[Found], str],
    otherwise: str,
) -> str:
    parts = []
    for kind, holds in kinds.items():
        if own := [place(each) for each in found if holds(each)]:
            parts.append(f"{kind} at {', '.join(own)}")
    return f"{name}: {'; '.join(parts) or otherwise}."
