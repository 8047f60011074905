"""Totals over the prompts and seeds of a row: extra sequences, votes, and inexact steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evals.analysis.figures_at_k import ALL_SEQUENCES
from evals.analysis.groups import RecordGroup, mean_over_prompts
from evals.analysis.metrics import coverage
from evals.records.record import PromptRecord

__all__ = [
    "InexactSamples",
    "StageTwoTotals",
    "VoteTotals",
    "inexact_of",
    "stage_two_of",
    "votes_of",
]


@dataclass(frozen=True)
class StageTwoTotals:
    """The extra sequences of reallocation, over all prompts and seeds.

    Attributes:
        mode: "restart" or "resume".
        eligible: prompts that the rule considered; of a small surplus not all get a share.
        extra_granted: sequences beyond those of stage one that they were allowed.
        extra_used: those that were generated.
        tokens_per_extra: generated for one of them, discarded tokens included; None without any.
        pass_gained: what they added to Pass@M, mean over prompts.
    """

    mode: str
    eligible: int
    extra_granted: int
    extra_used: int
    tokens_per_extra: float | None
    pass_gained: float


@dataclass(frozen=True)
class InexactSamples:
    """Where the nucleus held, or may have held, more than the K known tokens of a step.

    Attributes:
        num_steps: stored steps, over all trees.
        num_trees: trees with such a step.
        of_trees: all trees.
    """

    num_steps: int
    num_trees: int
    of_trees: int


@dataclass(frozen=True)
class VoteTotals:
    """The tokens of votes by kind, over all prompts and seeds.

    Attributes:
        shared: of the counted sequences, tokens that an earlier one had, and that were not
            generated again.
        left, probes, num_probes: see `evals.records.record.VoteCost`.
    """

    shared: int
    left: int
    probes: int
    num_probes: int


def stage_two_of(group: RecordGroup) -> StageTwoTotals | None:
    """None for a method of one stage."""
    totals = [record.stage_two for record in group.records if record.stage_two is not None]
    if not totals:
        return None
    used = sum(total.extra_used for total in totals)
    both = mean_over_prompts(group, ALL_SEQUENCES.coverage)
    return StageTwoTotals(
        mode=totals[0].mode,
        eligible=sum(total.eligible for total in totals),
        extra_granted=sum(total.extra_granted for total in totals),
        extra_used=used,
        tokens_per_extra=sum(total.generated for total in totals) / used if used else None,
        pass_gained=both.value - mean_over_prompts(group, _stage_one_coverage).value,
    )


def _stage_one_coverage(record: PromptRecord) -> float:
    return coverage([sequence.correct for sequence in record.sequences if sequence.stage == 1])


def inexact_of(records: Iterable[PromptRecord]) -> InexactSamples | None:
    """None for a method without samples through the tree."""
    steps = [record.inexact_steps for record in records if record.inexact_steps is not None]
    return InexactSamples(sum(steps), sum(map(bool, steps)), len(steps)) if steps else None


def votes_of(records: Sequence[PromptRecord]) -> VoteTotals | None:
    """None where a record is of no vote, or of an earlier version."""
    costs = [record.vote_cost for record in records if record.vote_cost is not None]
    if not costs or len(costs) < len(records):
        return None
    return VoteTotals(
        shared=sum(record.counts.naive - record.counts.unique for record in records),
        left=sum(cost.left for cost in costs),
        probes=sum(cost.probes for cost in costs),
        num_probes=sum(cost.num_probes for cost in costs),
    )
