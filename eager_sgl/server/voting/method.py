"""The method `Vote`: independent samples through the trie until their answers agree."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Sequence as Items
from dataclasses import KW_ONLY, dataclass, replace

from eager_sgl.methods import ReadSequences, TrieParallel
from eager_sgl.schedule import Leaf, Schedule
from eager_sgl.search.votes import Classes, checked_classes
from eager_sgl.search.voting import VoteSchedule
from eager_sgl.tree import TokenTree

__all__ = ["Vote"]


@dataclass(frozen=True)
class Vote(TrieParallel):
    """Independent samples until the majority is unlikely to change, see `VoteSchedule`.

    Attributes:
        classes: one class of equivalent answers per sequence.
        confidence: above which the vote is decided.
    """

    _: KW_ONLY
    classes: Classes
    confidence: float = 0.95

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        tree.open_root()
        checked = checked_classes(self.classes)

        def classes_of(leaves: Items[Leaf]) -> Items[Hashable | None]:
            return checked.classes(read(leaves)) if leaves else []

        return VoteSchedule(
            config=replace(self.config, max_sequences=max_sequences),
            rng=self._rng(tree),
            in_rounds=self.seed is not None,
            classes=classes_of,
            confidence=self.confidence,
        )
