"""How the figures of a report were obtained and what they do not say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evals.analysis.intervals import MIN_PROMPTS
from evals.config import BIDS, FRONTIER
from evals.records.header import SearchFields
from evals.records.plan import PARALLEL, STOPPABLE, Cell, Plan
from evals.report.columns import JUDGED_COLUMNS
from evals.report.rows import Row

__all__ = ["ending_notes", "notes", "remarks"]

STOPPED = (
    "Searches were ended early ({stop}): their figures are those of the sequences until then. A "
    "verifier has seen what they are judged by, and Pass@k for smaller k is not unbiased."
)
SHARED = (
    "The prompts of a search shared {budget} tokens per prompt by {bids}: some have fewer than M "
    "sequences because the tokens were of more use to others."
)
TREES = (
    "Pass@M of a tree is coverage with the sequences it realised, often fewer than M and not "
    "independent; a method with a second stage may have more than M."
)
ESTIMATED_PARALLEL = (
    "parallel was run once, with {number} sequences per prompt; its rows are estimated from that: "
    "Pass@M unbiased, Cons from random subsets, #T and seconds in proportion."
)
ESTIMATED_SEARCHES = (
    "Run once, with M = {highest}: {searches}. Rows at a smaller M are the first M sequences of "
    "that run, of trie_parallel any M of them; #T is that of their curve, seconds in proportion."
)
LABELS = (
    "eager spends its surplus on prompts that are unsolved by their labels or a verifier; no other "
    "method here has this knowledge."
)
UNLABELLED = (
    "There are no reference answers: nothing was judged, and figures that need labels are absent."
)


def notes(
    rows: Sequence[Row], missing: Mapping[Cell, int], plan: Plan, *, is_partial: bool
) -> Iterator[str]:
    """On the rows as a whole.

    Args:
        missing: prompts without a result, by cell.
        is_partial: whether some of these have not been tried.
    """
    if is_partial:
        yield _partial(missing)
    if any(row.matched for row in rows):
        yield _equal_tokens(rows)
    if any(row.cell.method != PARALLEL for row in rows):
        yield TREES
    if any(row.cell.method == "eager" for row in rows):
        yield LABELS
    yield from _estimated(rows, plan)
    if (num_seeds := max((len(row.seeds) for row in rows), default=1)) > 1:
        yield (
            f"{num_seeds} seeds: the values of a prompt are averaged over them, ± is over prompts; "
            "#S and #T are added up over seeds."
        )


def _estimated(rows: Sequence[Row], plan: Plan) -> Iterator[str]:
    names = dict.fromkeys(row.cell.method for row in rows if row.estimated)
    if PARALLEL in names:
        yield ESTIMATED_PARALLEL.format(number=plan.parallel_sequences)
    if searches := ", ".join(name for name in names if name != PARALLEL):
        yield ESTIMATED_SEARCHES.format(highest=max(plan.max_sequences), searches=searches)


def _partial(missing: Mapping[Cell, int]) -> str:
    return (
        f"PARTIAL: {sum(missing.values()):,} results are missing, in {len(missing)} of the planned "
        "combinations of method, M, θ, temperature and seed; comparisons are over the prompts that "
        "both sides have. A method of two stages is not compared until it is complete: its hard "
        "prompts are those that are missing."
    )


def _equal_tokens(rows: Sequence[Row]) -> str:
    ks = [row.matched.k for row in rows if row.matched]
    low, high = min(ks), max(ks)
    k = f"k = {low:.2f}" if low == high else f"k = {low:.2f} to {high:.2f}"
    return (
        f"Equal tokens: parallel at the k where it generates as many tokens ({k}), unbiased Pass@k "
        "(Chen et al. 2021), linear between whole k. Intervals: 95 %, paired bootstrap over "
        "prompts, with one more, unseen run of the opposite result; not corrected for the number "
        f"of comparisons; no verdict on fewer than {MIN_PROMPTS} prompts."
    )


def ending_notes(rows: Sequence[Row], search: SearchFields) -> Iterator[str]:
    """On what besides M ended the searches.

    Args:
        search: their options.
    """
    if not {row.cell.method for row in rows} & {*STOPPABLE}:
        return
    if search.stop:
        yield STOPPED.format(stop=search.stop)
    if search.token_budget:
        yield SHARED.format(budget=search.token_budget, bids=BIDS[search.bids or FRONTIER])


def remarks(rows: Sequence[Row], *, with_counts: bool) -> Iterator[str]:
    """On single rows.

    Args:
        with_counts: whether to say what failed and was not judged, for a table without these lines.
    """
    if all(row.coverage is None for row in rows):
        yield UNLABELLED
    for clauses_of in (_counts, _theta, _inexact) if with_counts else (_theta, _inexact):
        yield from (f"{row.cell.label()}: {clause}." for row in rows for clause in clauses_of(row))
    if any(row.paper for row in rows):
        yield _paper(rows)


def _counts(row: Row) -> Iterator[str]:
    if row.num_failed:
        yield f"{row.num_failed:,} prompts failed"
    if needed := [column for column in JUDGED_COLUMNS if column.needed_by(row)]:
        yield ", ".join(f"{column.line.strip()}: {column.show(row)}" for column in needed)


def _theta(row: Row) -> Iterator[str]:
    if adaptive := row.adaptive:
        final = ", ".join(f"{theta:.3f}" for theta in adaptive.final)
        quantile = ", ".join(f"{quantile:.4f}" for quantile in adaptive.quantile)
        yield (
            f"θ is the adaptive quantile, at the end {final} (q = {quantile}) after "
            f"{adaptive.num_steps:,} monitored steps; prompts branched at {adaptive.lowest:.3f} to "
            f"{adaptive.highest:.3f}, median {adaptive.median:.3f}"
        )


def _inexact(row: Row) -> Iterator[str]:
    if row.inexact and row.inexact.num_steps:
        yield (
            f"at {row.inexact.num_steps:,} stored steps, in {row.inexact.num_trees:,} of "
            f"{row.inexact.of_trees:,} trees, the nucleus of top-p has, or may have, more tokens "
            "than the K known ones: these steps were not drawn exactly as the server draws; raise "
            "--top-k"
        )


def _paper(rows: Sequence[Row]) -> str:
    figures = "; ".join(
        f"{row.cell.method} {row.paper.pass_at_k:.2f} with {row.paper.million_tokens:g} M tokens"
        + f" (here {', '.join(row.paper.differs)})" * bool(row.paper.differs)
        for row in rows
        if row.paper
    )
    return f"The paper (arXiv 2510.11170; M = 32, τ = 0.6, top-p 0.95) reports Pass@32: {figures}."
