"""Searches: look at a prompt's whole tree, and open the next sequences where they are worth most.

A schedule (`best_first`, `sampling`) opens sequences in rounds: best-first by a priority over the
candidates of the frontier, sampling by the server's distribution. A stop rule ends a search, and a
utility values its next round for a shared token budget. Priorities, stop rules and utilities are
callables, so users may pass their own.
"""

from __future__ import annotations

from eager_sgl.search.best_first import BestFirstSchedule
from eager_sgl.search.frontier import NO_RESHAPING, Candidates, Priority, Reshaping, StepRecorder
from eager_sgl.search.priorities import (
    PRIORITIES,
    Best,
    EarlyPeaks,
    JointOverCost,
    find_priority,
    usable_priority,
)
from eager_sgl.search.redundancy import Divergent, Novel
from eager_sgl.search.rounds import IsEnough, MayCost, SearchConfig, SearchSchedule, round_sizes
from eager_sgl.search.sampling import TrieParallelSchedule, WithoutReplacementSchedule
from eager_sgl.search.stopping import Consensus, Solved, Stop, Unexplored
from eager_sgl.search.utility import BestEntry, Utility, VoteUncertainty
from eager_sgl.search.votes import Classes, vote_totals, vote_uncertainty, vote_weights, vote_winner

__all__ = [
    "NO_RESHAPING",
    "PRIORITIES",
    "Best",
    "BestEntry",
    "BestFirstSchedule",
    "Candidates",
    "Classes",
    "Consensus",
    "Divergent",
    "EarlyPeaks",
    "IsEnough",
    "JointOverCost",
    "MayCost",
    "Novel",
    "Priority",
    "Reshaping",
    "SearchConfig",
    "SearchSchedule",
    "Solved",
    "StepRecorder",
    "Stop",
    "TrieParallelSchedule",
    "Unexplored",
    "Utility",
    "VoteUncertainty",
    "WithoutReplacementSchedule",
    "find_priority",
    "round_sizes",
    "usable_priority",
    "vote_totals",
    "vote_uncertainty",
    "vote_weights",
    "vote_winner",
]
