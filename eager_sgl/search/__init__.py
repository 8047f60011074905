"""Searches: look at a prompt's whole tree, and open the next sequences where utility is highest.

A schedule opens sequences: `best_first` by a priority over the candidates of the frontier,
`sampling` by the server's distribution, `vote` until their answers have decided. A stop rule ends a
search, and a utility values its next round for a shared token budget; searches that are asked
neither need no rounds. Priorities, stop rules and utilities are callables, so users may pass their
own.

`eager_sgl` has the searches, stop rules and utilities; the names below are for priorities of one's
own, and for counting rounds.
"""

from __future__ import annotations

from eager_sgl.search.frontier import NO_RESHAPING, Candidates, Priority, Reshaping
from eager_sgl.search.priorities import PRIORITIES, Best, usable_priority
from eager_sgl.search.redundancy import Divergent, Novel
from eager_sgl.search.rounds import round_sizes

__all__ = [
    "NO_RESHAPING",
    "PRIORITIES",
    "Best",
    "Candidates",
    "Divergent",
    "Novel",
    "Priority",
    "Reshaping",
    "round_sizes",
    "usable_priority",
]
