"""EAGer-init at an adaptive θ, which is fixed for a prompt once enough chains are known."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from statistics import fmean

from eager_sgl.adaptive_threshold import AdaptiveThreshold, EntropyHistogram
from eager_sgl.schedule import Decision, OnlineSchedule
from eager_sgl.tree import TokenTree

__all__ = ["AdaptiveSchedule"]


@dataclass
class AdaptiveSchedule:
    """Replays at the θ of a prompt, and adds the prompt's entropies to the model's.

    A prompt that starts when enough chains are known has its θ at once. One that starts earlier
    draws its first chain to the end, counts it among the known ones, and gets its θ then: every
    segment is drawn from the model's distribution, so branches may be decided on later. The chain
    is monitored as far as any θ may let it branch, whatever the patience. From then on its θ is
    constant.

    Attributes:
        online: the schedule at a fixed θ; its θ is replaced.
        adaptive_threshold: of the model.
        threshold: the prompt's θ in nats; None while it has none.
    """

    online: OnlineSchedule
    adaptive_threshold: AdaptiveThreshold
    threshold: float | None = None
    _counts: Counter[int] = field(default_factory=Counter)
    _num_read: Counter[int] = field(default_factory=Counter)
    _length: float | None = None

    def replay(self, tree: TokenTree) -> Decision:
        """As `OnlineSchedule` at the prompt's θ; without branches while it has none."""
        self._observe(tree)
        root = tree.segments[0]
        starts_known = not root.token_ids and self.adaptive_threshold.is_ready
        if self.threshold is None and (starts_known or root.finish_reason):
            if root.finish_reason:
                self._observe_length(root.end)
            self.threshold = self.adaptive_threshold.threshold(self.online.max_sequences)
        decision = self._online().replay(tree)
        if decision.num_alive:
            return self._at_threshold(decision)
        if self._length is None:
            self._observe_length(fmean(leaf.segment.end for leaf in decision.leaves))
        return replace(decision, entropy_histogram=self._histogram())

    def _online(self) -> OnlineSchedule:
        """The schedule at the prompt's θ; without one nothing branches, and all is monitored."""
        if self.threshold is None:
            return replace(self.online, threshold=math.inf, patience=sys.maxsize)
        return replace(self.online, threshold=self.threshold)

    def _at_threshold(self, decision: Decision) -> Decision:
        """With reports of the steps that may branch, which are all while θ is not known."""
        if self.threshold is None:
            monitored = (replace(m, max_reports=None) for m in decision.monitored)
        elif self.online.keep_deferred:
            return decision
        else:
            monitored = (replace(m, threshold=self.threshold) for m in decision.monitored)
        return replace(decision, monitored=tuple(monitored))

    def _histogram(self) -> EntropyHistogram:
        assert self.threshold is not None, "the prompt has no θ yet"
        assert self._length is not None, "the prompt has not ended"
        return EntropyHistogram(self.threshold, self._length, tuple(sorted(self._counts.items())))

    def _observe(self, tree: TokenTree) -> None:
        """Every step once: the first step of a segment with a parent is a step of the parent."""
        for segment in tree.segments:
            start = max(self._num_read[segment.index], segment.parent is not None)
            self._counts += self.adaptive_threshold.observe(segment.entropies[start:])
            self._num_read[segment.index] = len(segment.entropies)

    def _observe_length(self, length: float) -> None:
        self._length = length
        self.adaptive_threshold.observe_length(length)
