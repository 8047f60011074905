"""The tables of `evals/compare.py`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from evals.report.table import WIDTH, ruled

__all__ = ["render"]

ABSENT = "–"


def render(found: dict[str, Any]) -> str:
    """All tables, one under the other."""
    needed = found["needed"]
    parts = [
        _needed(needed, levels)
        for levels in dict.fromkeys(tuple(each["levels"]) for each in needed)
    ]
    parts += [_budgets(found["budgets"])] if found["budgets"] else []
    parts += [_verifier(found["verifier"]), _votes(found["votes"])]
    return "\n\n".join([*parts, *(textwrap.fill(each, WIDTH) for each in found["findings"])])


def _needed(needed: Iterable[dict[str, Any]], levels: Sequence[int | None]) -> str:
    """A line per method and reference, a column per target."""
    own = [each for each in needed if tuple(each["levels"]) == levels]
    ks = sorted({each["k"] for each in own})
    targets = {each["k"]: each["target"] for each in own}
    heads = [f"pass@{k} ({targets[k]:.3f})" for k in ks]
    lines = [["method", "tokens as a share of", *heads, "seconds a prompt, own/theirs"]]
    for method, reference in dict.fromkeys((each["method"], each["reference"]) for each in own):
        places = {
            each["k"]: each
            for each in own
            if (each["method"], each["reference"]) == (method, reference)
        }
        if method != reference:
            seconds = " ".join(_seconds(places[k]) for k in ks)
            lines.append([method, reference, *(_ratio(places[k]) for k in ks), seconds])
    names = "" if None in levels else f"levels {', '.join(map(str, levels))}, "
    return f"{names}{own[0]['num_prompts']} prompts\n{ruled(lines, 1)}"


def _ratio(needed: dict[str, Any]) -> str:
    if needed["ratio"] is None:
        return "not reached" if needed["tokens"] is None else ABSENT
    low, high = needed["interval"]
    top = "∞" if math.isinf(high) else f"{high:.2f}"
    return f"{needed['ratio']:.2f} [{low:.2f}, {top}]"


def _seconds(needed: dict[str, Any]) -> str:
    pair = (needed["seconds"], needed["reference_seconds"])
    return "/".join(ABSENT if each is None else f"{each:.2f}" for each in pair)


def _budgets(rows: Sequence[dict[str, Any]]) -> str:
    """Over all prompts; the findings have what differs by level."""
    lines = [
        ["at the tokens of", "M", "tokens", "pass", "search", "k", "pass", "difference"],
    ]
    lines += [
        [
            row["online"],
            str(row["max_sequences"]),
            f"{row['tokens']:.0f}",
            f"{row['online_pass']:.3f}",
            row["search"],
            f"{row['num_sequences']:.1f}" + "+" * row["is_exhausted"],
            f"{row['search_pass']:.3f}",
            f"{row['difference']:+.3f} [{row['interval'][0]:+.3f}, {row['interval'][1]:+.3f}]",
        ]
        for row in rows
        if row["levels"] == (None,)
    ]
    voted = [
        ["at the tokens of", "M", "search", "Pass Rate", "Cons", "Cons, weighted"],
    ]
    voted += [
        [
            row["online"],
            str(row["max_sequences"]),
            row["search"],
            *(
                f"{_figure(row['online_votes'][name])} → {_figure(row['search_votes'][name])}"
                for name in ("pass_rate", "cons", "weighted_cons")
            ),
        ]
        for row in rows
        if row["levels"] == (None,)
    ]
    return f"{ruled(lines, 1)}\n\n{ruled(voted, 1)}"


def _figure(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _verifier(rows: Iterable[dict[str, Any]]) -> str:
    lines = [["stopped at the first correct sequence", "τ", "M", "tokens per prompt", "pass"]]
    lines += [
        [
            row["method"],
            f"{row['temperature']:g}",
            str(row["max_sequences"]),
            f"{row['tokens']:.0f}",
            f"{row['pass']:.3f}",
        ]
        for row in rows
    ]
    return ruled(lines, 1)


def _votes(rows: Iterable[dict[str, Any]]) -> str:
    lines = [["method", "θ", "τ", "M", "Pass Rate", "Cons", "Cons, weighted by probability"]]
    lines += [
        [
            row["method"],
            row["theta"] or ABSENT,
            f"{row['temperature']:g}",
            str(row["max_sequences"]),
            f"{row['pass_rate']:.3f}",
            f"{row['cons']:.3f}",
            _figure(row["weighted_cons"]),
        ]
        for row in rows
    ]
    return ruled(lines, 1)
