"""Searches against EAGer-init at the tokens of EAGer-init, for every M and θ that was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.analysis.intervals import Resamples, resamples
from evals.analysis.prompt_curves import PromptCurves, curve_place
from evals.comparison.shared import cut
from evals.comparison.votes import Votes, votes_of
from evals.records.plan import SEARCHES, STAGE_ONE
from evals.records.store import PromptRecord

__all__ = ["CONFIDENCE", "AtBudget", "at_budgets", "resampled"]

CONFIDENCE = 0.9
NUM_RESAMPLES = 2_000
"""Fewer than elsewhere: each is a search along two curves."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AtBudget:
    """A search with as many tokens as EAGer-init generated over the same prompts.

    Attributes:
        online: EAGer-init, with its θ and τ.
        max_sequences: M of it.
        levels: of the prompts; [None] for all.
        tokens: generated per prompt.
        online_pass, search_pass: share of prompts with a correct sequence.
        is_exhausted: whether all of the search's sequences cost less.
        difference: of the search's pass to the other.
        interval: 90 % paired bootstrap interval of it over prompts, with an unseen run
            (`evals.analysis.intervals`).
        num_sequences: of the search at these tokens, for every prompt; a mean where prompts share
            their tokens, and None there for single levels.
        online_votes, search_votes: of all of EAGer-init's sequences, and of that many; None for the
            prompts of single levels.
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
) -> list[dict[str, Any]]:
    """Every search against every M and θ of EAGer-init, over all prompts and by level.

    Args:
        width: paths that a search opens at once.
    """
    return [asdict(each) for each in _comparisons(curves, records, width)]


def _comparisons(
    curves: Sequence[PromptCurves], records: Sequence[PromptRecord], width: int
) -> Iterator[AtBudget]:
    searches = [each for each in curves if each.place.method in SEARCHES]
    online = [each for each in curves if each.place.method == STAGE_ONE]
    for one, search in product(online, searches):
        own = [record for record in records if curve_place(record.cell) == one.place]
        other = [record for record in records if curve_place(record.cell) == search.place]
        caps = sorted({record.max_sequences for record in own})
        levels = sorted({level for level in one.levels if level is not None})
        levels = levels if len(set(one.levels)) > 1 else []
        for place, cap in enumerate(caps, start=1):
            for level in (None, *levels):
                chosen = one.at_levels([level]), search.at_levels([level])
                found = _compare(*chosen, place, cap, level)
                if level is None:
                    votes = votes_of([r for r in own if r.max_sequences == cap])
                    found = replace(found, online_votes=votes)
                    found = _with_search_votes(found, search, other, width)
                yield found


def _with_search_votes(
    found: AtBudget, search: PromptCurves, records: Sequence[PromptRecord], width: int
) -> AtBudget:
    """With what the search's sequences at these tokens say."""
    if not search.is_shared:
        k = max(1, round(_num_sequences(search, found.tokens)))
        return replace(found, search_votes=votes_of(records, k))
    there = cut(records, width, found.tokens)
    number = fmean(len(record.sequences) for record in there)
    return replace(found, num_sequences=number, search_votes=votes_of(there))


def _compare(
    online: PromptCurves, search: PromptCurves, place: int, cap: int, level: int | None
) -> AtBudget:
    number = len(online.levels)
    tokens, passes = online.tokens[:, place], online.passes[:, place]
    even = np.full((1, number), 1 / number)
    mean = float((even @ tokens)[0])
    reached, drawn = _at(even, search, tokens), resampled(search)
    differences = _at(drawn.weights, search, tokens) - drawn.weights @ passes
    return AtBudget(
        search=search.name,
        online=online.name,
        max_sequences=cap,
        levels=(level,),
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


def _at(weights: Floats, search: PromptCurves, tokens: Floats) -> Floats:
    """Pass of a search with the tokens of each row of weights [R, P], linear between sequences."""
    budgets = weights @ tokens
    costs, passes = weights @ search.tokens, weights @ search.passes
    rows = zip(budgets, costs, passes, strict=True)
    return np.array([np.interp(budget, cost, value) for budget, cost, value in rows])


def resampled(curves: PromptCurves) -> Resamples:
    """Those of a method's prompts; always the same."""
    return resamples(len(curves.levels), curves.num_seeds, NUM_RESAMPLES)
