"""The values that prompts which share tokens bid: `--bids`."""

from __future__ import annotations

from collections.abc import Sequence

from eager_sgl import BestEntry, Utility, VoteUncertainty
from eager_sgl.search import Priority, usable_priority
from evals.config.stopping import Judgements
from evals.records.plan import BEST_FIRST, STOPPABLE
from evals.tasks import Task

__all__ = ["BIDS", "FRONTIER", "VOTE_UNCERTAINTY", "read_bids", "utility_by"]

VOTE_UNCERTAINTY, FRONTIER = "vote_uncertainty", "frontier"
BIDS = {
    VOTE_UNCERTAINTY: "the uncertainty of their votes",
    FRONTIER: "the best values of their frontiers",
}
"""By name, as sentences call the value of a bid."""


def read_bids(name: str | None, task: Task, methods: Sequence[str]) -> str:
    """The name that `--bids` gives, or "vote_uncertainty".

    Raises:
        ValueError: the task or a search has no such value.
    """
    if name == FRONTIER and (others := {*STOPPABLE} & {*methods} - {BEST_FIRST}):
        raise ValueError(
            f"--bids is {FRONTIER}, but {min(others)} has no priority; "
            f"give --methods {BEST_FIRST} alone, or --bids {VOTE_UNCERTAINTY}"
        )
    if name != FRONTIER and not task.can_vote:
        raise ValueError(
            f"--bids is {VOTE_UNCERTAINTY}; the answers of {task.name} cannot agree, "
            f"give --bids {FRONTIER}"
        )
    return name or VOTE_UNCERTAINTY


def utility_by(name: str | None, judgements: Judgements, priority: str | Priority) -> Utility:
    """The rule that bids for one prompt.

    Args:
        priority: whose best value "frontier" bids.
    """
    if name == FRONTIER:
        return BestEntry(usable_priority(priority))
    return VoteUncertainty(judgements.classes)
