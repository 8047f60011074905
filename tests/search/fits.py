"""Whether sequences have the distribution of plain sampling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from functools import cache
from typing import TypeVar

import numpy as np
from scipy.stats import chi2_contingency, chisquare

from eager_sgl import SamplingConfig
from tests.fakes.scripted import EOS, Distribution, tempered

__all__ = ["Path", "agreement", "p_value", "sequence_distribution"]

Path = tuple[int, ...]
Outcome = TypeVar("Outcome", bound=Hashable)


@cache
def sequence_distribution(
    distribution: Distribution, sampling: SamplingConfig
) -> dict[Path, float]:
    """The exact probability of every sequence of plain sampling."""
    probabilities: dict[Path, float] = {}

    def descend(path: Path, probability: float) -> None:
        if (path and path[-1] == EOS) or len(path) == sampling.max_new_tokens:
            probabilities[path] = probability
            return
        step = tempered(distribution(path), sampling.temperature, sampling.top_p, sampling.top_k)
        for token in np.flatnonzero(step):
            descend((*path, int(token)), probability * step[token])

    descend((), 1.0)
    return probabilities


def p_value(counts: Counter[Outcome], expected: Mapping[Outcome, float]) -> float:
    """Of a chi-square test, categories under 5 expected draws taken together."""
    total = sum(counts.values())
    assert set(counts) <= set(expected), "an impossible outcome"
    large = [key for key, chance in expected.items() if chance * total >= 5]
    observed: list[float] = [counts[key] for key in large]
    wanted = [expected[key] * total for key in large]
    observed.append(total - sum(observed))
    wanted.append(total - sum(wanted))
    if wanted[-1] < 1e-6:
        observed, wanted = observed[:-1], wanted[:-1]
    return float(chisquare(observed, wanted).pvalue) if len(wanted) > 1 else 1.0


def agreement(seen: Counter[Outcome], expected: Counter[Outcome]) -> float:
    """The probability of two samples as different as these, of one distribution.

    Outcomes that are rarer than 20 among the expected ones count as one.
    """
    frequent = [outcome for outcome, number in expected.items() if number >= 20]
    rows = [[counts[outcome] for outcome in frequent] for counts in (seen, expected)]
    rest = [counts.total() - sum(row) for counts, row in zip((seen, expected), rows, strict=True)]
    table = [[*row, number + 1] for row, number in zip(rows, rest, strict=True)]
    return float(chi2_contingency(table).pvalue)
