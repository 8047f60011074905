"""Rules: which samples start, which are cut, what they share, and what their votes weigh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eager_sgl import Cutting
from evals.laboratory.starting import ALL, Start, Waves
from evals.laboratory.weighing import Weights

__all__ = ["Filter", "Rule", "SharedBudget"]


@dataclass(frozen=True)
class Filter:
    """Only the share `keep` of highest lowest group confidence votes; nothing is saved."""

    keep: float
    window: int


@dataclass(frozen=True)
class SharedBudget:
    """Prompts share their tokens by the uncertainty of their votes, in rounds.

    Attributes:
        tokens: the total, as a share of Full Parallel's tokens at M; None for a price.
        price: the lowest uncertainty over the number of sequences, per 1,000 tokens that the next
            sequence is expected to cost, at which a prompt continues; None for a total.
        width: maximum number of samples that start in a round.
    """

    tokens: float | None = None
    price: float | None = None
    width: int = 8


@dataclass(frozen=True)
class Rule:
    """A combination of parts; without any it is Full Parallel.

    Attributes:
        text: as the command line has it.
        start: when no further sample starts.
        waves: of samples; None where as many run as may decide.
        ahead: how far samples run ahead of the decision (`Vote`).
        cutting: ends samples; None ends none.
        is_calibrated: whether the floor of the cutting comes from other prompts.
        filter: of finished samples; None for all.
        weights: of votes; None counts them.
        outweighed: share of the strongest vote below which samples end; 0 for never.
        shares: whether samples share their prefixes.
        budget: None where every prompt spends alone.
    """

    text: str
    start: Start = ALL
    waves: Waves | None = None
    ahead: float = 0
    cutting: Cutting | None = None
    is_calibrated: bool = False
    filter: Filter | None = None
    weights: Weights | None = None
    outweighed: float = 0
    shares: bool = False
    budget: SharedBudget | None = None

    @property
    def kind(self) -> tuple[str, ...]:
        """The names of its parts, which rules that differ in numbers alone have in common."""
        return tuple(self._names())

    def _names(self) -> Iterator[str]:
        for part in self.text.split("+"):
            name, _, values = part.partition(":")
            yield f"{name}:{values.partition(':')[0]}" if name == "weights" else name

    @property
    def needs_columns(self) -> bool:
        """Whether it looks at values of tokens, which `--record` keeps."""
        by_confidence = self.weights is not None and self.weights.kind != "probability"
        looks = self.cutting is not None or self.filter is not None or by_confidence
        return looks or self.outweighed > 0

    @property
    def needs_logprobs(self) -> bool:
        """Whether it looks at the probabilities of whole samples."""
        return self.weights is not None and self.weights.kind == "probability"
