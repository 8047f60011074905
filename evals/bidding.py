"""What the prompts of a search bid for shared tokens by: `--bids`."""

from __future__ import annotations

from eager_sgl.priorities import find_priority
from eager_sgl.worth import BestEntry, Doubt, Worth
from evals.judged import Verdicts
from evals.tasks import Task

__all__ = ["BIDS", "DOUBT", "FRONTIER", "read_bids", "worth_by"]

DOUBT, FRONTIER = "doubt", "frontier"
BIDS = (DOUBT, FRONTIER)


def read_bids(name: str, task: Task) -> str:
    """What `--bids` says.

    Raises:
        ValueError: the task has nothing that it could go by.
    """
    if name == DOUBT and not task.can_vote:
        raise ValueError(
            f"bids is {DOUBT}; the answers of {task.name} cannot agree, give --bids {FRONTIER}"
        )
    return name


def worth_by(name: str, verdicts: Verdicts, priority: str) -> Worth:
    """The rule for one prompt.

    Args:
        priority: whose values "frontier" bids.
    """
    if name == FRONTIER:
        return BestEntry(find_priority(priority))
    return Doubt(verdicts.classes)
