"""Best-first search: each round opens the untried tokens of the highest priority."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eager_sgl.search.frontier import Priority, candidates
from eager_sgl.search.rounds import SearchSchedule
from eager_sgl.tree import TokenTree

__all__ = ["BestFirstSchedule"]


@dataclass(kw_only=True)
class BestFirstSchedule(SearchSchedule):
    """Opens the candidates of the highest priority; no path is opened twice.

    Attributes:
        priority: values the candidates.
    """

    priority: Priority

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Open the best candidates; ties go to the first in the order of the candidates."""
        untried = candidates(tree, self.priority.reshaping)
        values = self.priority(untried)
        best = np.argsort(-values, kind="stable")[:max_new].tolist()
        chosen = [index for index in best if values[index] > -np.inf]
        for index in chosen:
            self.open(
                tree,
                tree.segments[untried.segments[index]],
                position=int(untried.positions[index]),
                rank=int(untried.ranks[index]),
                priority=float(values[index]),
            )
        return len(chosen)
