"""The figures of a prompt with k of its sequences, or with all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from evals.analysis.curves import Curve, curve_of
from evals.analysis.metrics import coverage, majority_at_k, majority_correct, pass_rate
from evals.records.plan import INDEPENDENT
from evals.records.record import PromptRecord

__all__ = ["ALL_SEQUENCES", "FiguresAtK", "figures_at_k"]


@dataclass(frozen=True)
class FiguresAtK:
    """What k sequences of a prompt amount to: any k of independent ones, the first k of a search.

    Attributes:
        k: None for all that the prompt has.
        curves: with a k, the curves of all records, by prompt and seed.
    """

    k: int | None = None
    curves: Mapping[tuple[str, int], Curve] = field(default_factory=dict)

    def num_sequences(self, record: PromptRecord) -> int:
        """k, or fewer where a search ended before."""
        number = len(record.sequences)
        return number if self.k is None else min(self.k, number)

    def coverage(self, record: PromptRecord) -> float:
        """Chance that a sequence is correct."""
        if self.k is None:
            return coverage(record.correct)
        return float(self._curve(record).passes[self.num_sequences(record)])

    def tokens(self, record: PromptRecord) -> float:
        """Tokens generated for them."""
        if self.k is None:
            return record.counts.generated
        return float(self._curve(record).tokens[self.num_sequences(record)])

    def _curve(self, record: PromptRecord) -> Curve:
        return self.curves[record.sample_id, record.seed]

    def majority(self, record: PromptRecord) -> float:
        """Chance that the majority answer is correct."""
        k = self.num_sequences(record)
        if record.method in INDEPENDENT and self.k is not None:
            return majority_at_k(record.votes, record.correct, k)
        return float(majority_correct(record.votes[:k], record.correct, record.weights[:k]))

    def pass_rate(self, record: PromptRecord) -> float:
        """Mean correctness; of independent sequences that of all, the better estimate."""
        is_any_k = record.method in INDEPENDENT
        k = len(record.sequences) if is_any_k else self.num_sequences(record)
        return pass_rate(record.correct[:k])


ALL_SEQUENCES = FiguresAtK()


def figures_at_k(k: int, records: Iterable[PromptRecord]) -> FiguresAtK:
    """Of the records of a method whose smaller M are part of its larger ones."""
    return FiguresAtK(k, {(r.sample_id, r.seed): curve_of(r) for r in records})
