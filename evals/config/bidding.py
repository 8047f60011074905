"""What the prompts of a search bid for shared tokens by: `--bids`."""

from __future__ import annotations

from collections.abc import Sequence

from eager_sgl.search.priorities import Priority, usable_priority
from eager_sgl.search.utility import BestEntry, Utility, VoteUncertainty
from evals.analysis.judged import Verdicts
from evals.records.plan import BEST_FIRST, SEARCHES
from evals.tasks import Task

__all__ = ["BIDS", "FRONTIER", "VOTE_UNCERTAINTY", "read_bids", "utility_by"]

VOTE_UNCERTAINTY, FRONTIER = "vote_uncertainty", "frontier"
BIDS = (VOTE_UNCERTAINTY, FRONTIER)


def read_bids(name: str | None, task: Task, methods: Sequence[str]) -> str:
    """What `--bids` says; "vote_uncertainty" where it says nothing.

    Raises:
        ValueError: the task or a search has nothing that it could go by.
    """
    if name == FRONTIER and (others := {*SEARCHES} & {*methods} - {BEST_FIRST}):
        raise ValueError(
            f"bids is {FRONTIER}, whose values {min(others)} does not go by; run {BEST_FIRST} alone"
        )
    if name != FRONTIER and not task.can_vote:
        raise ValueError(
            f"bids is {VOTE_UNCERTAINTY}; the answers of {task.name} cannot agree, "
            f"give --bids {FRONTIER}"
        )
    return name or VOTE_UNCERTAINTY


def utility_by(name: str | None, verdicts: Verdicts, priority: str | Priority) -> Utility:
    """The rule for one prompt.

    Args:
        priority: whose values "frontier" bids.
    """
    if name == FRONTIER:
        return BestEntry(usable_priority(priority))
    return VoteUncertainty(verdicts.classes)
