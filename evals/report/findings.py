"""Where a method beats Full Parallel at equal tokens and where it does not, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evals.analysis.intervals import FEWEST_PROMPTS
from evals.analysis.matching import MatchedParallel
from evals.config import BIDS, FRONTIER
from evals.records.header import SearchFields
from evals.records.plan import PARALLEL, SEARCHES, Cell, Plan
from evals.report.summary import Row

__all__ = ["ending_notes", "findings", "notes"]

Point = tuple[str, MatchedParallel]
Label = Callable[[Row], str]


def findings(rows: Sequence[Row]) -> tuple[str, ...]:
    """A sentence per method over all prompts and one by level; none without Full Parallel."""
    label = _labels(rows)
    sentences = []
    for method in dict.fromkeys(row.name for row in rows if row.method != PARALLEL):
        own = [row for row in rows if row.name == method]
        overall = [
            (label(row) or f"M={row.max_sequences}", row.matched) for row in own if row.matched
        ]
        if overall:
            sentences.append(f"{method} against parallel at equal tokens: {_verdicts(overall)}.")
        by_level = [
            (" ".join(filter(None, [f"level {level.level}", label(row)])), level.matched)
            for row in own
            for level in row.levels
            if level.matched and len(row.levels) > 1
        ]
        if by_level:
            sentences.append(f"{method} within levels, at each level's tokens: {_few(by_level)}.")
    return tuple(sentences)


def _labels(rows: Sequence[Row]) -> Label:
    """Names a row by what differs between rows."""
    branching = [row for row in rows if row.method != PARALLEL]
    with_cap = len({row.max_sequences for row in branching}) > 1
    with_threshold = len({row.threshold for row in branching}) > 1
    with_temperature = len({row.temperature for row in branching}) > 1

    def label(row: Row) -> str:
        parts = [f"M={row.max_sequences}"] if with_cap else []
        parts += [f"θ={row.theta}"] if with_threshold and row.theta else []
        parts += [f"τ={row.temperature:g}"] if with_temperature else []
        return " ".join(parts)

    return label


def _verdicts(points: Sequence[Point]) -> str:
    wins, losses, open_, absent = _sorted(points)
    parts = [f"better at {_listed(wins)}" if wins else "better nowhere"]
    parts.append(f"worse at {_listed(losses)}" if losses else "worse nowhere")
    if open_:
        few = any(matched.num_prompts < FEWEST_PROMPTS for _, matched in open_)
        why = f"under {FEWEST_PROMPTS} prompts" if few else "the 95 % interval covers zero"
        parts.append(f"undecided ({why}) at {_listed(open_)}")
    if absent:
        names = "; ".join(name for name, _ in absent)
        parts.append(
            "beyond the tokens of parallel, so without a comparison (--parallel-sequences), at "
            f"{names}"
        )
    return "; ".join(parts)


def _few(points: Sequence[Point]) -> str:
    """As `_verdicts`, but what is undecided is only counted."""
    wins, losses, open_, absent = _sorted(points)
    parts = [f"better at {_listed(wins)}" if wins else "better nowhere"]
    parts.append(f"worse at {_listed(losses)}" if losses else "worse nowhere")
    parts.append(f"undecided at {len(open_)} of {len(points)}")
    parts += [f"no comparison at {len(absent)}"] if absent else []
    return "; ".join(parts)


def _sorted(points: Sequence[Point]) -> list[list[Point]]:
    """Better, worse, undecided, and those that cannot be compared."""
    verdicts = ("better", "worse", "undecided", None)
    return [[point for point in points if point[1].verdict == each] for each in verdicts]


def _listed(points: Sequence[Point]) -> str:
    return ", ".join(f"{name} ({matched.difference:+.3f})" for name, matched in points)


def notes(
    rows: Sequence[Row], missing: Mapping[Cell, int], waiting: Mapping[Cell, int], plan: Plan
) -> tuple[str, ...]:
    """How the figures of the rows came about, and what they do not say.

    Args:
        missing: results that there are not, by cell.
        waiting: of these cells those in which prompts have not been tried.
    """
    found = [_partial(missing)] if waiting else []
    if any(row.matched for row in rows):
        found.append(_equal_tokens(rows))
    if any(row.method != PARALLEL for row in rows):
        found.append(TREES)
    if any(row.method == "eager" for row in rows):
        found.append(LABELS)
    if any(row.estimated for row in rows):
        found.append(_estimated(plan))
    if any(len(row.seeds) > 1 for row in rows):
        found.append(_seeds(rows))
    return tuple(found)


def ending_notes(rows: Sequence[Row], search: SearchFields) -> tuple[str, ...]:
    """What else than M ended the searches.

    Args:
        search: the options of the searches.
    """
    methods = {row.method for row in rows}
    stop, budget = search.stop, search.token_budget
    found = []
    if stop and methods & {*SEARCHES}:
        found.append(STOPPED.format(stop=stop))
    if budget and methods & {*SEARCHES}:
        found.append(SHARED.format(budget=budget, bids=BIDS[search.bids or FRONTIER]))
    return tuple(found)


STOPPED = (
    "Searches were ended early ({stop}): their figures are those of the sequences that they had by "
    "then. A verifier has seen what they are judged by, and Pass@k for smaller k is not unbiased."
)

SHARED = (
    "The prompts of a search shared {budget} tokens per prompt by {bids}: some have fewer "
    "than M sequences because others had a use for more."
)

TREES = (
    "Pass@M of a tree is coverage with the sequences it realised, often fewer than M and not "
    "independent; a method with a second stage may have more than M."
)

LABELS = (
    "eager spends its surplus on prompts that it knows to be unsolved, from their labels or a "
    "verifier; no other method here knows them."
)


def _partial(missing: Mapping[Cell, int]) -> str:
    return (
        f"PARTIAL: {sum(missing.values()):,} results are missing, in {len(missing)} of the planned "
        "combinations of method, M, θ, temperature and seed; comparisons are over the prompts that "
        "both sides have. A method of two stages that is not complete is not compared: what is "
        "missing of it are its hard prompts."
    )


def _equal_tokens(rows: Sequence[Row]) -> str:
    ks = [row.matched.k for row in rows if row.matched]
    low, high = min(ks), max(ks)
    k = f"k = {low:.2f}" if low == high else f"k = {low:.2f} to {high:.2f}"
    return (
        f"Equal tokens: parallel at the k where it generates as many tokens ({k}), unbiased Pass@k "
        "(Chen et al. 2021), linear between whole k. Intervals: 95 %, paired bootstrap over "
        "prompts, with one run more that went the other way; not corrected for the number of "
        f"comparisons; no verdict on fewer than {FEWEST_PROMPTS} prompts."
    )


def _estimated(plan: Plan) -> str:
    return (
        f"parallel was run once, with {plan.parallel_sequences} sequences per prompt; its rows "
        "are estimated from that: Pass@M unbiased, Cons from random subsets, #T and seconds in "
        "proportion."
    )


def _seeds(rows: Sequence[Row]) -> str:
    return (
        f"{max(len(row.seeds) for row in rows)} seeds: each prompt's values averaged over them, "
        "± over prompts; #S and #T added up over seeds."
    )
