"""Searches against EAGer-init at the tokens of EAGer-init, for every M and θ that was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean

import numpy as np

from eager_sgl.signals import Floats
from evals.analysis.prompt_curves import PromptCurves, curve_cell
from evals.comparison.resampling import CONFIDENCE, resampled
from evals.comparison.shared import cut
from evals.comparison.votes import Votes, votes_of
from evals.records.plan import SEARCHES, STAGE_ONE
from evals.records.record import PromptRecord

__all__ = ["AtBudget", "at_budgets"]


@dataclass(frozen=True)
class AtBudget:
    """A search with as many tokens as EAGer-init generated over the same prompts.

    Attributes:
        online: EAGer-init, with its θ and τ.
        max_sequences: its M.
        levels: of the prompts; [None] for all.
        tokens: generated per prompt.
        online_pass, search_pass: share of prompts with a correct sequence.
        is_exhausted: whether all sequences of the search cost less.
        difference: search_pass minus online_pass.
        interval: 90 % paired bootstrap interval of it over prompts, with an unseen run
            (`evals.analysis.intervals`).
        num_sequences: of the search at these tokens, for every prompt; a mean where prompts share
            their tokens, and None there for single levels.
        online_votes, search_votes: of all sequences of EAGer-init, and of those of the search at
            these tokens; None for the prompts of single levels.
    """

    search: str
    online: str
    max_sequences: int
    levels: tuple[int | None, ...]
    tokens: float
    online_pass: float
    search_pass: float
    is_exhausted: bool
    difference: float
    interval: tuple[float, float]
    num_sequences: float | None
    online_votes: Votes | None = None
    search_votes: Votes | None = None


def at_budgets(
    curves: Sequence[PromptCurves], records: Sequence[PromptRecord], width: int
) -> Iterator[AtBudget]:
    """Every search against every M and θ of EAGer-init, over all prompts and by level.

    Args:
        width: paths that a search opens at once.
    """
    searches = [curve for curve in curves if curve.cell.method in SEARCHES]
    onlines = [curve for curve in curves if curve.cell.method == STAGE_ONE]
    for online, search in product(onlines, searches):
        of_online = [r for r in records if curve_cell(r.cell) == online.cell]
        of_search = [r for r in records if curve_cell(r.cell) == search.cell]
        levels = sorted({level for level in online.levels if level is not None})
        levels = levels if len(set(online.levels)) > 1 else []
        caps = sorted({record.max_sequences for record in of_online})
        for column, cap in enumerate(caps, start=1):
            at_all = _at_budget(online, search, column, cap)
            votes = votes_of([r for r in of_online if r.max_sequences == cap])
            yield _with_search_votes(replace(at_all, online_votes=votes), search, of_search, width)
            for level in levels:
                at_level = online.at_levels([level]), search.at_levels([level])
                yield replace(_at_budget(*at_level, column, cap), levels=(level,))


def _with_search_votes(
    at_all: AtBudget, search: PromptCurves, records: Sequence[PromptRecord], width: int
) -> AtBudget:
    """With the votes of the search's sequences at these tokens."""
    if not search.is_shared:
        k = max(1, round(_num_sequences(search, at_all.tokens)))
        return replace(at_all, search_votes=votes_of(records, k))
    cut_records = cut(records, width, at_all.tokens)
    number = fmean(len(record.sequences) for record in cut_records)
    return replace(at_all, num_sequences=number, search_votes=votes_of(cut_records))


def _at_budget(online: PromptCurves, search: PromptCurves, column: int, cap: int) -> AtBudget:
    """Over all prompts of the curves.

    Args:
        column: of `online`, at which M is `cap`.
    """
    number = len(online.levels)
    tokens, passes = online.tokens[:, column], online.passes[:, column]
    even = np.full((1, number), 1 / number)
    mean = float((even @ tokens)[0])
    reached, drawn = _pass_at(even, search, tokens), resampled(search)
    differences = _pass_at(drawn.weights, search, tokens) - drawn.weights @ passes
    return AtBudget(
        search=search.name,
        online=online.name,
        max_sequences=cap,
        levels=(None,),
        tokens=mean,
        online_pass=float((even @ passes)[0]),
        search_pass=float(reached[0]),
        is_exhausted=mean > float(search.tokens[:, -1].mean()),
        difference=float((reached - even @ passes)[0]),
        interval=drawn.interval(differences, CONFIDENCE),
        num_sequences=None if search.is_shared else _num_sequences(search, mean),
    )


def _num_sequences(search: PromptCurves, tokens: float) -> float:
    costs = search.tokens.mean(axis=0)
    return float(np.interp(tokens, costs, np.arange(len(costs))))


def _pass_at(weights: Floats, search: PromptCurves, tokens: Floats) -> Floats:
    """Pass of a search with the tokens of each row of weights [R, P], linear between sequences."""
    budgets = weights @ tokens
    costs, passes = weights @ search.tokens, weights @ search.passes
    rows = zip(budgets, costs, passes, strict=True)
    return np.array([np.interp(budget, cost, value) for budget, cost, value in rows])
