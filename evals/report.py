"""From the records of a run to the rows of `summary.json` and the table at its end."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from eager_sgl.core import TokenCounts
from evals.metrics import (
    Estimate,
    coverage,
    equivalent_parallel_k,
    estimate,
    majority_correct,
    pass_at_k,
    pass_rate,
)
from evals.settings import Settings, versions
from evals.store import PromptRecord

if TYPE_CHECKING:
    from eager_sgl.probe import ServerProfile

__all__ = ["MatchedParallel", "Row", "match_parallel", "render_table", "run_header", "summarise"]

SCHEMA = 1
NUM_DIGITS = 3
ABSENT = "–"
NOTE_WIDTH = 80


@dataclass(frozen=True)
class MatchedParallel:
    """Full Parallel at the tokens that another method generated.

    Attributes:
        k: sequences per prompt that it samples with them.
        pass_at_k: its unbiased estimate over prompts; None where k exceeds the M it was run with.
    """

    k: float
    pass_at_k: Estimate | None


@dataclass(frozen=True)
class Row:
    """One method over all prompts.

    Attributes:
        coverage: Pass@M, the share of prompts with a correct sequence among the realised ones.
        cons: Cons@M, the share of prompts whose majority answer is correct; None without votes.
        num_sequences: #S, over all prompts.
        counts: tokens and requests, over all prompts.
        matched: what Full Parallel reaches with the same tokens; None if it was not run.
    """

    method: str
    max_sequences: int
    threshold: float | None
    num_prompts: int
    coverage: Estimate
    cons: Estimate | None
    pass_rate: Estimate
    num_sequences: int
    counts: TokenCounts
    wall_seconds: float
    matched: MatchedParallel | None = None

    @property
    def cached_share(self) -> float:
        """Of the prompt tokens sent, those that the radix tree served."""
        return self.counts.cached / self.counts.prompt if self.counts.prompt else 0.0

    def to_json(self) -> dict[str, Any]:
        """With the names of `summary.json`."""
        matched = self.matched
        return {
            "method": self.method,
            "max_sequences": self.max_sequences,
            "theta": self.threshold,
            "num_prompts": self.num_prompts,
            **_named("pass_at_k", self.coverage),
            **_named("cons_at_k", self.cons),
            **_named("pass_rate", self.pass_rate),
            "num_sequences": self.num_sequences,
            "tokens_generated": self.counts.generated,
            "tokens_unique": self.counts.unique,
            "tokens_naive": self.counts.naive,
            "tokens_discarded": self.counts.discarded,
            "tokens_hand_set": self.counts.hand_set,
            "tokens_prefilled": self.counts.prefilled,
            "prompt_tokens": self.counts.prompt,
            "cached_tokens": self.counts.cached,
            "num_requests": self.counts.requests,
            "wall_seconds": self.wall_seconds,
            "matched_parallel_k": matched.k if matched else None,
            **_named("matched_parallel_pass_at_k", matched.pass_at_k if matched else None),
        }


def _named(name: str, value: Estimate | None) -> dict[str, float | None]:
    return {
        name: value.value if value else None,
        f"{name}_stderr": value.stderr if value else None,
    }


def summarise(records: Sequence[PromptRecord], *, can_vote: bool, wall_seconds: float) -> Row:
    """The row of one method's records."""
    first = records[0]
    votes = [float(majority_correct(record.votes, record.correct)) for record in records]
    return Row(
        method=first.method,
        max_sequences=first.max_sequences,
        threshold=first.threshold,
        num_prompts=len(records),
        coverage=estimate([coverage(record.correct) for record in records]),
        cons=estimate(votes) if can_vote else None,
        pass_rate=estimate([pass_rate(record.correct) for record in records]),
        num_sequences=sum(len(record.sequences) for record in records),
        counts=reduce(add, (record.counts for record in records), TokenCounts()),
        wall_seconds=wall_seconds,
    )


def match_parallel(row: Row, parallel: Sequence[PromptRecord]) -> Row:
    """The row with what Full Parallel reaches on the same prompts with as many tokens.

    All prompts get the same k: the tokens of the row over those of one Full Parallel sequence,
    both added up over the prompts.
    """
    assert len(parallel) == row.num_prompts, f"{len(parallel)} prompts against {row.num_prompts}"
    tokens = sum(record.counts.generated for record in parallel)
    num_sequences = len(parallel[0].sequences)
    k = equivalent_parallel_k(row.counts.generated, tokens, num_sequences)
    if k > num_sequences:
        return replace(row, matched=MatchedParallel(k, None))
    values = [pass_at_k(len(r.correct), sum(r.correct), k) for r in parallel]
    return replace(row, matched=MatchedParallel(k, estimate(values)))


def run_header(settings: Settings, profile: ServerProfile) -> dict[str, Any]:
    """What a run is: the content of `config.json`, and of `summary.json` before its rows."""
    return {
        "schema": SCHEMA,
        "task": settings.task.name,
        "model": profile.model_path,
        "versions": versions() | {"server_sglang": profile.version},
        "config": settings.to_json() | {"logprobs": profile.logprobs},
    }


Cell = Callable[[Row], str]


def render_table(rows: Sequence[Row]) -> str:
    """One column per method, and under it how the token-matched figures came about."""
    lines = [["", *(row.method for row in rows)]]
    lines += [[label, *(cell(row) for row in rows)] for label, cell in _cells(rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [_aligned(line, widths) for line in lines]
    rule = "─" * max(map(len, table))
    notes = [_note(row, rows) for row in rows if row.matched]
    return "\n".join([table[0], rule, *table[1:], rule, *notes])


def _cells(rows: Sequence[Row]) -> list[tuple[str, Cell]]:
    max_sequences = max(row.max_sequences for row in rows)
    cells: list[tuple[str, Cell]] = [
        (f"Pass@{max_sequences}", lambda row: _figure(row.coverage)),
        (f"Cons@{max_sequences}", lambda row: _figure(row.cons)),
        ("Pass Rate", lambda row: _figure(row.pass_rate)),
        ("sequences (#S)", lambda row: f"{row.num_sequences:,}"),
        ("tokens generated (#T)", lambda row: f"{row.counts.generated:,}"),
        ("  unique, in the tree", lambda row: f"{row.counts.unique:,}"),
        ("  naive, nothing shared", lambda row: f"{row.counts.naive:,}"),
        ("  discarded", lambda row: f"{row.counts.discarded:,}"),
        ("prompt tokens cached", lambda row: f"{row.cached_share:.1%}"),
        ("requests", lambda row: f"{row.counts.requests:,}"),
        ("seconds", lambda row: f"{row.wall_seconds:.1f}"),
    ]
    if any(row.matched for row in rows):
        cells.insert(1, ("  parallel, equal tokens", _matched_figure))
    return cells


def _matched_figure(row: Row) -> str:
    return _figure(row.matched.pass_at_k if row.matched else None)


def _figure(value: Estimate | None) -> str:
    if value is None:
        return ABSENT
    stderr = f"{value.stderr:.{NUM_DIGITS}f}" if value.stderr == value.stderr else ABSENT
    return f"{value.value:.{NUM_DIGITS}f} ± {stderr}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    label, *figures = line
    cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
    return "   ".join([label.ljust(widths[0]), *cells])


def _note(row: Row, rows: Sequence[Row]) -> str:
    assert row.matched is not None
    parallel = next(other for other in rows if other.method == "parallel")
    share = row.counts.generated / parallel.counts.generated
    parts = [
        f"{row.method} generated {share:.2f} × the tokens of parallel, as many as parallel "
        f"spends on k = {row.matched.k:.2f} sequences per prompt."
    ]
    if row.matched.pass_at_k is None:
        parts.append(f"There is no unbiased Pass@k of parallel beyond M = {row.max_sequences}.")
    else:
        parts.append(
            f"At that k parallel reaches {_figure(row.matched.pass_at_k)}: the unbiased Pass@k of "
            "Chen et al. (2021), linear between whole k."
        )
    return textwrap.fill(" ".join(parts), NOTE_WIDTH)
