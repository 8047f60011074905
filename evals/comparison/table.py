"""The tables of `evals/compare.py`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from evals.comparison.budgets import AtBudget
from evals.comparison.compare import Comparison
from evals.comparison.needed import Needed
from evals.comparison.verifier import AtFirstCorrect
from evals.comparison.votes import MethodVotes, Votes
from evals.report.column import ABSENT, interval, signed
from evals.report.table import WIDTH, ruled

__all__ = ["render"]


def render(comparison: Comparison) -> str:
    """All tables and findings, one under the other."""
    level_sets = dict.fromkeys(needed.levels for needed in comparison.needed)
    parts = [_needed(comparison.needed, levels) for levels in level_sets]
    whole = [budget for budget in comparison.budgets if budget.levels == (None,)]
    parts += [_budgets(whole), _budget_votes(whole)] if whole else []
    parts += [_verifier(comparison.verifier), _votes(comparison.votes)]
    return "\n\n".join([*parts, *(textwrap.fill(text, WIDTH) for text in comparison.findings)])


def _needed(needed: Iterable[Needed], levels: Sequence[int | None]) -> str:
    """A line per method and reference, a column per target."""
    at_levels = [pair for pair in needed if pair.levels == levels]
    targets = {pair.k: pair.target for pair in at_levels}
    heads = [f"pass@{k} ({targets[k]:.3f})" for k in sorted(targets)]
    lines = [["method", "tokens as a share of", *heads, "seconds per prompt, both"]]
    pairs = dict.fromkeys((pair.method, pair.reference) for pair in at_levels)
    for method, reference in pairs:
        if method != reference:
            of_pair = [n for n in at_levels if (n.method, n.reference) == (method, reference)]
            of_pair.sort(key=lambda needed: needed.k)
            seconds = " ".join(map(_seconds, of_pair))
            lines.append([method, reference, *map(_ratio, of_pair), seconds])
    names = "" if None in levels else f"levels {', '.join(map(str, levels))}, "
    return f"{names}{at_levels[0].num_prompts} prompts\n{ruled(lines)}"


def _ratio(needed: Needed) -> str:
    if needed.ratio is None or needed.interval is None:
        return "not reached" if needed.tokens is None else ABSENT
    low, high = needed.interval
    top = "∞" if math.isinf(high) else f"{high:.2f}"
    return f"{needed.ratio:.2f} [{low:.2f}, {top}]"


def _seconds(needed: Needed) -> str:
    pair = (needed.seconds, needed.reference_seconds)
    return "/".join(ABSENT if seconds is None else f"{seconds:.2f}" for seconds in pair)


def _budgets(budgets: Iterable[AtBudget]) -> str:
    """Over all prompts; differences between levels are in the findings."""
    lines = [["at the tokens of", "M", "tokens", "pass", "search", "k", "pass", "difference"]]
    lines += [
        [
            budget.online,
            str(budget.max_sequences),
            f"{budget.tokens:.0f}",
            f"{budget.online_pass:.3f}",
            budget.search,
            f"{budget.num_sequences:.1f}" + "+" * budget.is_exhausted,
            f"{budget.search_pass:.3f}",
            f"{signed(budget.difference)} {interval(budget.interval)}",
        ]
        for budget in budgets
    ]
    return ruled(lines)


def _budget_votes(budgets: Iterable[AtBudget]) -> str:
    lines = [["at the tokens of", "M", "search", "Pass Rate", "Cons", "Cons, weighted"]]
    for budget in budgets:
        assert budget.online_votes is not None, f"no votes at {budget.levels}"
        assert budget.search_votes is not None, f"no votes at {budget.levels}"
        pairs = zip(_figures(budget.online_votes), _figures(budget.search_votes), strict=True)
        texts = (f"{online} → {search}" for online, search in pairs)
        lines.append([budget.online, str(budget.max_sequences), budget.search, *texts])
    return ruled(lines)


def _figures(votes: Votes) -> Iterator[str]:
    for value in (votes.pass_rate, votes.cons, votes.weighted_cons):
        yield ABSENT if value is None else f"{value:.3f}"


def _verifier(rows: Iterable[AtFirstCorrect]) -> str:
    lines = [["stopped at the first correct sequence", "τ", "M", "tokens per prompt", "pass"]]
    lines += [
        [
            row.method,
            f"{row.temperature:g}",
            str(row.max_sequences),
            f"{row.tokens:.0f}",
            f"{row.coverage:.3f}",
        ]
        for row in rows
    ]
    return ruled(lines)


def _votes(rows: Iterable[MethodVotes]) -> str:
    lines = [["method", "θ", "τ", "M", "Pass Rate", "Cons", "Cons, weighted by probability"]]
    lines += [
        [
            row.method,
            row.theta or ABSENT,
            f"{row.temperature:g}",
            str(row.max_sequences),
            *_figures(row),
        ]
        for row in rows
    ]
    return ruled(lines)
