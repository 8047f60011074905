"""Tokens of a search that a verifier ends at its first correct sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evals.analysis.curves import curve_of, tokens_to_first_correct
from evals.analysis.groups import group_by
from evals.records.plan import NESTED
from evals.records.record import PromptRecord

__all__ = ["AtFirstCorrect", "at_first_correct"]


@dataclass(frozen=True)
class AtFirstCorrect:
    """A method at one τ, ended at the first correct sequence; means over prompts and seeds.

    Attributes:
        coverage: share of prompts with a correct sequence.
        max_sequences: that count of each prompt.
    """

    method: str
    temperature: float
    tokens: float
    coverage: float
    max_sequences: int


def at_first_correct(
    records: Sequence[PromptRecord], width: int, max_sequences: int | None
) -> Iterator[AtFirstCorrect]:
    """All methods whose sequences have an order.

    Args:
        width: paths that a search opens at once.
        max_sequences: the most sequences that count; None for all.
    """
    for cell, group in group_by(records, lambda record: record.cell.without_seed).items():
        if cell.method in NESTED:
            number = min(cell.max_sequences, max_sequences or cell.max_sequences)
            tokens = [tokens_to_first_correct(record, width, number) for record in group]
            passes = [curve_of(record).passes[: number + 1][-1] for record in group]
            yield AtFirstCorrect(
                method=cell.name,
                temperature=cell.temperature,
                tokens=float(np.mean(tokens)),
                coverage=float(np.mean(passes)),
                max_sequences=number,
            )
