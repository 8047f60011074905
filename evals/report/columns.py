"""The figures of a report, declared once: `summary.json`, the table and the page take them here.

A new figure is a value in `rows` and an entry in `ROW_COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from evals.analysis.judged import JudgedCounts
from evals.analysis.matching import MatchedParallel
from evals.analysis.metrics import Estimate
from evals.records.plan import AUTO
from evals.report.column import (
    Column,
    difference,
    interval,
    share,
    signed,
    tenths,
    whole,
    with_error,
    without_error,
)
from evals.report.paper import PaperRow
from evals.report.rows import Figures, LevelRow, Row
from evals.report.totals import StageTwoTotals, VoteTotals

__all__ = ["JUDGED_COLUMNS", "LEVEL_COLUMNS", "ROW_COLUMNS", "SETTING_COLUMNS", "TEMPERATURE"]

Value = TypeVar("Value")


def _theta(theta: float | str) -> str:
    return theta if isinstance(theta, str) else f"{theta:g}"


def _marked_difference(matched: MatchedParallel) -> str:
    mark = {"better": "▲ ", "worse": "▼ "}.get(matched.verdict or "", "")
    return f"{mark}{difference(matched)}"


def _used_of_granted(totals: StageTwoTotals) -> str:
    return f"{totals.extra_used:,} of {totals.extra_granted:,}"


def _is_matched(row: Figures) -> bool:
    return row.matched is not None


def _with_difference(row: Figures) -> MatchedParallel | None:
    return row.matched if row.matched and row.matched.difference is not None else None


def _has_extra(row: Row) -> bool:
    return row.stage_two is not None


def _if_run(value: Callable[[Row], Value]) -> Callable[[Row], Value | None]:
    """None for a row that was estimated."""
    return lambda row: None if row.estimated else value(row)


def _judged(line: str, count: Callable[[JudgedCounts], int]) -> Column[Row, int]:
    return Column(
        "",
        lambda row: count(row.judged) if row.judged else None,
        line=line,
        text=whole,
        needed_by=lambda row: row.judged is not None and count(row.judged) > 0,
    )


def _of_votes(line: str, count: Callable[[VoteTotals], int]) -> Column[Row, int]:
    return Column(
        "",
        lambda row: count(row.votes) if row.votes else None,
        line=line,
        text=whole,
        needed_by=lambda row: row.votes is not None and count(row.votes) > 0,
    )


def _is_partly_judged(row: Row) -> bool:
    """Without labels nothing is judged, which is no failure of the judge."""
    return row.judged is not None and row.judged.num_unjudged > 0 and row.coverage is not None


def _paper(line: str, text: Callable[[PaperRow], str]) -> Column[Row, PaperRow]:
    return Column("", lambda row: row.paper, line, text=text, needed_by=lambda row: bool(row.paper))


TEMPERATURE: Column[Row, float] = Column(
    "temperature", lambda row: row.cell.temperature, page="τ", text=_theta
)
SETTING_COLUMNS: tuple[Column[Row, Any], ...] = (
    Column("method", lambda row: row.cell.method),
    Column("name", lambda row: row.cell.name, head="method", page="method"),
    Column("max_sequences", lambda row: row.cell.max_sequences, head="M", page="M"),
    Column(
        "theta",
        lambda row: AUTO if row.cell.is_adaptive else row.cell.threshold,
        head="θ",
        page="θ",
        text=_theta,
    ),
    TEMPERATURE,
)
PASS: Column[Figures, Estimate] = Column(
    "pass_at_k",
    lambda row: row.coverage,
    line="Pass@{M}",
    head="Pass@M",
    page="Pass@M",
    text=with_error,
    short=lambda mean: with_error(mean).replace(" ", ""),
)
MATCHED: tuple[Column[Figures, Any], ...] = (
    Column("matched_parallel_k", lambda row: row.matched and row.matched.k),
    Column(
        "matched_parallel_pass_at_k",
        lambda row: row.matched and row.matched.pass_at_k,
        line="  parallel, equal tokens",
        page="parallel, equal tokens",
        text=with_error,
        short=without_error,
        needed_by=_is_matched,
    ),
    Column("", _with_difference, page="difference [95 %]", text=_marked_difference),
    Column(
        "matched_difference",
        lambda row: row.matched and row.matched.difference,
        line="  difference",
        text=signed,
        needed_by=_is_matched,
    ),
    Column(
        "matched_difference_ci95",
        lambda row: row.matched and row.matched.interval,
        line="  95 % interval",
        text=interval,
        needed_by=_is_matched,
    ),
    Column("matched_verdict", lambda row: row.matched and row.matched.verdict),
)
PASS_RATE: Column[Figures, Estimate] = Column(
    "pass_rate",
    lambda row: row.pass_rate,
    line="Pass Rate",
    head="Rate",
    page="Pass Rate",
    text=with_error,
    short=without_error,
)
NUM_SEQUENCES: Column[Figures, int] = Column(
    "num_sequences", lambda row: row.num_sequences, "sequences (#S)", "#S", "#S", whole
)
TOKENS: Column[Figures, int] = Column(
    "tokens_generated", lambda row: row.counts.generated, "tokens generated (#T)", "#T", "#T", whole
)
LEVEL_COLUMNS: tuple[Column[LevelRow, Any], ...] = (
    Column("level", lambda row: row.level, page="level"),
    Column("num_prompts", lambda row: row.num_prompts, page="prompts", text=whole),
    PASS,
    *MATCHED,
    PASS_RATE,
    NUM_SEQUENCES,
    TOKENS,
)
"""Of a row's prompts of one level."""
JUDGED_COLUMNS = (
    replace(
        _judged("sequences not judged", lambda judged: judged.num_unjudged),
        needed_by=_is_partly_judged,
    ),
    _judged("judging timed out", lambda judged: judged.num_timed_out),
    _judged("cut at the length limit", lambda judged: judged.num_truncated),
    _judged("  of these, in a repetition", lambda judged: judged.num_repetition),
)
VOTE_COLUMNS = (
    _of_votes("    of samples that were left", lambda votes: votes.left),
    _of_votes("  answers to probes", lambda votes: votes.probes),
    _of_votes("  shared, not generated again", lambda votes: votes.shared),
)
"""Of votes, where there are such tokens."""
ROW_COLUMNS: tuple[Column[Row, Any], ...] = (
    *SETTING_COLUMNS,
    Column("seeds", lambda row: row.seeds),
    Column("num_prompts", lambda row: row.num_prompts),
    Column("coverage", lambda row: row.estimator),
    Column("estimated", lambda row: row.estimated),
    Column("stderr_over", lambda _: "prompts, each averaged over seeds"),
    PASS,
    Column("pass_at_k_stderr_seeds", lambda row: row.coverage_seeds and row.coverage_seeds.stderr),
    *MATCHED,
    Column(
        "cons_at_k",
        lambda row: row.cons,
        line="Cons@{M}",
        head="Cons",
        page="Cons@M",
        text=with_error,
        short=without_error,
    ),
    PASS_RATE,
    NUM_SEQUENCES,
    Column(
        "stage_two",
        lambda row: row.stage_two,
        line="  extra, of those granted",
        page="extra",
        text=_used_of_granted,
        needed_by=_has_extra,
    ),
    Column(
        "",
        lambda row: row.stage_two and row.stage_two.tokens_per_extra,
        line="  tokens per extra",
        text=tenths,
        needed_by=_has_extra,
    ),
    TOKENS,
    Column("tokens_unique", lambda row: row.counts.unique, "  unique, in the tree", text=whole),
    Column("tokens_naive", lambda row: row.counts.naive, "  naive, nothing shared", text=whole),
    Column("tokens_discarded", lambda row: row.counts.discarded, "  discarded", text=whole),
    *VOTE_COLUMNS,
    Column("tokens_forced", lambda row: row.counts.forced),
    Column("tokens_prefilled", _if_run(lambda row: row.counts.prefilled)),
    Column("prompt_tokens", _if_run(lambda row: row.counts.prompt)),
    Column("cached_tokens", _if_run(lambda row: row.counts.cached)),
    Column(
        "",
        _if_run(lambda row: row.cached_share),
        line="prompt tokens cached",
        page="cached",
        text=share,
    ),
    Column("num_requests", _if_run(lambda row: row.counts.requests), "requests", text=whole),
    Column("votes", lambda row: row.votes),
    Column("beside_parallel", lambda row: row.beside),
    Column("judged", lambda row: row.judged),
    *JUDGED_COLUMNS,
    Column(
        "num_failed",
        lambda row: row.num_failed,
        line="prompts failed",
        text=whole,
        needed_by=lambda row: row.num_failed > 0,
    ),
    Column("wall_seconds", lambda row: row.wall_seconds, "seconds", page="seconds", text=tenths),
    Column("adaptive_theta", lambda row: row.adaptive),
    Column("inexact_samples", lambda row: row.inexact),
    Column("paper", lambda row: row.paper),
    _paper("the paper's Pass@32", lambda paper: f"{paper.pass_at_k:.2f}"),
    _paper("the paper's #T, millions", lambda paper: f"{paper.million_tokens:g}"),
    Column("", lambda row: row.matched_pass, head="par. =T", text=without_error),
    Column("", _with_difference, head="difference", text=difference),
)
"""In the order of their lines in the table and of their columns on the page."""
