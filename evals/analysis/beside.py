"""A method beside Full Parallel with M sequences: what it saves, and what it loses."""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl.signals import Floats
from evals.analysis.figures_at_k import ALL_SEQUENCES, figures_at_k
from evals.analysis.groups import RecordGroup, prompt_means
from evals.analysis.intervals import mean_interval, resamples

__all__ = ["BesideParallel", "Difference", "beside_parallel"]

CONFIDENCE = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """A share of prompts less that of Full Parallel.

    Attributes:
        value: mean over prompts.
        interval: 95 %, paired over prompts (`evals.analysis.intervals`); None for a single prompt.
    """

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class BesideParallel:
    """Over the prompts and seeds that both have.

    Attributes:
        num_prompts: number of these prompts.
        majority: difference of Cons@M; None without votes.
        coverage: difference of Pass@M.
        tokens: generated tokens as a share of Full Parallel's.
        tokens_interval: 95 %, over prompts; None for a single prompt.
    """

    num_prompts: int
    majority: Difference | None
    coverage: Difference
    tokens: float
    tokens_interval: Interval | None


def beside_parallel(
    group: RecordGroup, parallel: RecordGroup, *, can_vote: bool
) -> BesideParallel | None:
    """With as many sequences as the group's M; None where parallel has fewer, or other prompts.

    Args:
        can_vote: whether answers of the task can agree.
    """
    shared = group.shared_with(parallel)
    if not shared or parallel.cell.max_sequences < group.cell.max_sequences:
        return None

    ours, theirs = shared
    at_m = ALL_SEQUENCES
    if theirs.cell.max_sequences != ours.cell.max_sequences:
        at_m = figures_at_k(ours.cell.max_sequences, theirs.records)
    tokens = prompt_means(ours, ALL_SEQUENCES.tokens)
    of_parallel = prompt_means(theirs, at_m.tokens)
    coverage = prompt_means(ours, ALL_SEQUENCES.coverage) - prompt_means(theirs, at_m.coverage)
    majority = prompt_means(ours, ALL_SEQUENCES.majority) - prompt_means(theirs, at_m.majority)
    return BesideParallel(
        num_prompts=len(tokens),
        majority=_difference(majority, ours.num_seeds) if can_vote else None,
        coverage=_difference(coverage, ours.num_seeds),
        tokens=float(tokens.sum() / of_parallel.sum()),
        tokens_interval=_ratio_interval(tokens, of_parallel),
    )


def _difference(differences: Floats, num_seeds: int) -> Difference:
    interval = mean_interval(differences, num_seeds, CONFIDENCE)
    return Difference(float(differences.mean()), interval)


def _ratio_interval(numerators: Floats, denominators: Floats) -> Interval | None:
    if len(numerators) < 2:
        return None
    return resamples(len(numerators)).ratio_interval(numerators, denominators, CONFIDENCE)
