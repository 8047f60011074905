"""The curves of methods whose prompts share their tokens by the uncertainty of their votes.

A ledger decides how many rounds a prompt gets, not what they hold. So a run without a ledger shows
what one that grants a round at a time would have made of the same sequences. Whenever the highest
bid is lower than all before it, every prompt is where its bid first fell below one price, the same
for all; in between, and among equal bids, a curve is a straight line. The seeds of a run share one
price here, while a ledger has one for each seed.

Bids weigh votes by the model's probability where it is known; Full Parallel does not ask for it, so
that there all votes weigh the same. Rounds are those of a search whose samples never wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eager_sgl.search import round_sizes
from eager_sgl.signals import Floats
from eager_sgl.voting import vote_uncertainty
from evals.analysis.curves import Curve, drawn_tokens
from evals.analysis.groups import group_by
from evals.analysis.prompt_curves import PromptCurves, curve_cell, curves_over_seeds
from evals.records.plan import NESTED, Cell
from evals.records.record import PromptRecord

__all__ = ["cut", "shared_curves"]

NUM_PRICES = 200
"""Points of a curve; more would be the same curve."""


@dataclass(frozen=True)
class _Course:
    """A prompt after each of its rounds.

    Attributes:
        sizes: int [R], sequences; the first is 1.
        tokens: float64 [R], generated.
        passes: float64 [R], whether a sequence is correct.
        prices: float64 [R], the highest at which the prompt gets the round; the first is infinite.
    """

    sizes: NDArray[np.int64]
    tokens: Floats
    passes: Floats
    prices: Floats

    def last_rounds(self, prices: Floats) -> NDArray[np.int64]:
        """The last round at each of some prices [C]."""
        return np.searchsorted(-self.prices, -prices, side="right") - 1


def _course(record: PromptRecord, width: int) -> _Course:
    sizes = np.array(round_sizes(len(record.sequences), width))
    bids = [
        np.log(vote_uncertainty(record.sequences[:size], record.votes[:size]) / size)
        for size in sizes[:-1]
    ]
    return _Course(
        sizes=sizes,
        tokens=drawn_tokens(record)[sizes],
        passes=np.maximum.accumulate(record.correct)[sizes - 1].astype(float),
        prices=np.minimum.accumulate([np.inf, *bids]),
    )


def shared_curves(records: Iterable[PromptRecord], width: int) -> list[PromptCurves]:
    """Of the methods whose sequences have an order; a column per price.

    Args:
        width: paths that a search opens at once.
    """
    nested = (record for record in records if record.method in NESTED)
    groups = group_by(nested, lambda record: curve_cell(record.cell))
    return [_curves(cell, group, width) for cell, group in groups.items()]


def _curves(cell: Cell, records: Sequence[PromptRecord], width: int) -> PromptCurves:
    courses = {(r.sample_id, r.seed): _course(r, width) for r in records}
    prices = _prices(courses.values())

    def curve(group: Sequence[PromptRecord]) -> Curve:
        (record,) = group
        course = courses[record.sample_id, record.seed]
        last = course.last_rounds(prices)
        return Curve(np.append(0.0, course.tokens[last]), np.append(0.0, course.passes[last]))

    return replace(curves_over_seeds(cell, records, curve), is_shared=True)


def _prices(courses: Iterable[_Course]) -> Floats:
    """From the first sequences alone to all sequences."""
    prices = np.unique(np.concatenate([course.prices[1:] for course in courses]))[::-1]
    if len(prices) > NUM_PRICES:
        prices = prices[np.linspace(0, len(prices) - 1, NUM_PRICES).round().astype(int)]
    return np.append(np.inf, prices)


def cut(records: Sequence[PromptRecord], width: int, tokens: float) -> list[PromptRecord]:
    """The records with the sequences that they have when the mean of their tokens is `tokens`."""
    courses = [_course(record, width) for record in records]
    prices = _prices(courses)
    lasts = np.array([course.last_rounds(prices) for course in courses])
    costs = np.mean([c.tokens[last] for c, last in zip(courses, lasts, strict=True)], axis=0)
    column = max(int(np.searchsorted(costs, tokens, side="right")) - 1, 0)
    return [
        replace(record, sequences=record.sequences[: course.sizes[last]])
        for record, course, last in zip(records, courses, lasts[:, column], strict=True)
    ]
