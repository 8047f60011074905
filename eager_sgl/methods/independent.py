"""Full Parallel: independent sequences."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from eager_sgl.budget.bidding import Bidding
from eager_sgl.config import REASONING_END, TOP_K, EagerConfig, SamplingConfig, require_whole
from eager_sgl.core import PromptResult
from eager_sgl.methods.configured import require_seed
from eager_sgl.methods.protocol import ReadSequences
from eager_sgl.plugin.vocabulary import Column, Gate
from eager_sgl.schedule import FixedSchedule, Leaf, Schedule
from eager_sgl.tree import TokenTree

__all__ = ["FullParallel"]


@dataclass(frozen=True)
class FullParallel:
    """M independent sequences; only the prompt is shared.

    Attributes:
        sampling: how tokens are sampled.
        max_sequences: M.
        reasoning_end: the text that closes the reasoning, for `Sequence.final_text`.
        seed: of all draws; None repeats nothing.
        columns: the values of every token that the server's plugin reports, over 20 tokens, for
            the fields of `Sequence`.
    """

    sampling: SamplingConfig
    max_sequences: int
    reasoning_end: str | None = REASONING_END
    _: KW_ONLY
    seed: int | None = None
    columns: tuple[Column, ...] = ()

    observed_until: ClassVar[str | None] = None
    probe_text: ClassVar[str | None] = None
    monitoring: ClassVar[EagerConfig | None] = None
    decides_in_thread: ClassVar[bool] = False
    bidder: ClassVar[Bidding | None] = None

    def __post_init__(self) -> None:
        require_whole("max_sequences", self.max_sequences, 1)
        require_seed(self.seed)

    @property
    def top_k(self) -> int:
        return TOP_K if self.columns else 0

    @property
    def requires_gate(self) -> bool:
        return bool(self.columns)

    def policy(self) -> None:
        return None

    def gate(self, top_k: int) -> Gate | None:
        return Gate(top_k=top_k, columns=self.columns) if self.columns else None

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        return FixedSchedule(tuple(Leaf(index, tree.open_root()) for index in range(max_sequences)))

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return result
