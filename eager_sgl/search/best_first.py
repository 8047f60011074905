"""Best-first search: opens the untried tokens of the highest priority.

A prompt keeps up to `width` sequences running. After every *tick*, in which each of them advances
by the same number of tokens, free slots take the best untried tokens of the tree, also those of
running sequences. So a prompt waits neither for its first sequence nor for the slowest of a round.
What a tick opens depends on tokens alone, not on when they arrive (`eager_sgl.search.lockstep`).

A search for which something is asked before every round, a stop rule, a bid or `max_tokens`, has
rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.frontier import Priority, candidates
from eager_sgl.search.lockstep import Lockstep
from eager_sgl.search.rounds import SearchSchedule
from eager_sgl.tree import Segment, TokenTree

__all__ = ["BestFirstSchedule"]

MIN_TICK, MAX_TICKS = 16, 64
"""Tokens of a tick, at least; and ticks up to the length limit, at most. As many tokens lie between
two parts of the answers that are awaited (`eager_sgl.generate.executor`)."""


@dataclass(kw_only=True)
class BestFirstSchedule(SearchSchedule):
    """Opens the candidates of the highest priority; no path is opened twice.

    Attributes:
        priority: values the candidates.
    """

    priority: Priority
    _lockstep: Lockstep = field(default_factory=Lockstep, init=False)

    def replay(self, tree: TokenTree) -> Decision:
        """Pass the ticks whose tokens have arrived."""
        if self.is_asked_before_rounds:
            return super().replay(tree)
        if not self.leaves:
            self.leaves.append(Leaf(0, tree.segments[0]))
        while self._may_pass_tick(tree) and self._pass_tick(tree):
            pass
        alive = tuple(leaf.segment for leaf in self._alive())
        is_full = len(self.leaves) == self.config.max_sequences
        awaited = frozenset[Segment]() if is_full else frozenset(alive)
        return Decision(tuple(self.leaves), (), alive, awaited=awaited)

    @property
    def _tick(self) -> int:
        return max(MIN_TICK, self.config.sampling.max_new_tokens // MAX_TICKS)

    def _may_pass_tick(self, tree: TokenTree) -> bool:
        self._lockstep.add_new(tree)
        is_full = len(self.leaves) == self.config.max_sequences
        return not is_full and self._lockstep.has_arrived(tree, self._lockstep.now + self._tick)

    def _pass_tick(self, tree: TokenTree) -> bool:
        """Fill free slots at the end of a tick; False where nothing runs and nothing is opened."""
        self._lockstep.now += self._tick
        num_running = self._lockstep.num_running(tree)
        num_missing = self.config.max_sequences - len(self.leaves)
        max_new = min(self.config.width - num_running, num_missing)
        if max_new < 1:
            return True
        return self._open_best(tree, self._lockstep.tree_now(tree), max_new) > 0 or num_running > 0

    def open_round(self, tree: TokenTree, max_new: int) -> int:
        """Open the best candidates of a tree whose sequences have all finished."""
        return self._open_best(tree, tree, max_new)

    def _open_best(self, tree: TokenTree, known: TokenTree, max_new: int) -> int:
        """Open the best candidates; ties go to the first in the order of the candidates.

        Args:
            known: the part of the tree whose candidates count.
        """
        untried = candidates(known, self.priority.reshaping)
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
