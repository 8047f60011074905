"""EAGer-init: branches where the entropy of a step reaches θ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from eager_sgl.adaptive_schedule import AdaptiveSchedule
from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.budget.bidding import Bidding
from eager_sgl.config import EagerConfig
from eager_sgl.core import PromptResult
from eager_sgl.methods.configured import Configured
from eager_sgl.methods.protocol import ReadSequences
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.policy import EntropyThreshold
from eager_sgl.schedule import OnlineSchedule, Schedule
from eager_sgl.tree import TokenTree

__all__ = ["EagerInit"]


@dataclass(frozen=True)
class EagerInit(Configured[EagerConfig]):
    """A sequence branches where the entropy of a step reaches θ (paper, section 3).

    Attributes:
        config: the hyper-parameters.
        adaptive_threshold: sets the θ of every prompt, `config.threshold` is then ignored, and
            counts the prompt's entropies, which the gate then reports of every step; one object for
            all prompts of a model.
        seed: of all draws; None repeats nothing.
    """

    adaptive_threshold: AdaptiveThreshold | None = None

    decides_in_thread: ClassVar[bool] = False
    bidder: ClassVar[Bidding | None] = None

    @property
    def monitoring(self) -> EagerConfig:
        if self.adaptive_threshold is None:
            return self.config
        return replace(self.config, threshold=self.adaptive_threshold.lowest)

    def policy(self) -> EntropyThreshold:
        return EntropyThreshold.from_config(self.monitoring)

    def gate(self, top_k: int) -> Gate | None:
        if self.config.monitor == "chunk":
            return None
        gate = self.policy().gate(top_k)
        return gate if self.adaptive_threshold is None else replace(gate, columns=("entropies",))

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        tree.open_root()
        config = self.config
        online = OnlineSchedule(
            max_sequences,
            config.patience,
            config.threshold,
            keep_deferred=config.deferred_threshold is not None,
        )
        if self.adaptive_threshold is None:
            return online
        return AdaptiveSchedule(online, self.adaptive_threshold)

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return result
