"""What came out of a run, as figures: the content of `summary.json`.

A row is one method at one M, θ and temperature. Where a run has several seeds, each prompt's
values are first averaged over them, and means and standard errors are then taken over prompts;
tokens and sequences are added up over prompts and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from eager_sgl.core import TokenCounts
from evals.analysis.adaptive_threshold import AdaptiveTheta
from evals.analysis.judged import JudgedCounts
from evals.analysis.matching import MatchedParallel
from evals.analysis.metrics import Correlation, Estimate
from evals.analysis.second_stages import StageTwoContrast
from evals.records.failures import Failure
from evals.records.header import RunHeader
from evals.records.plan import AUTO, Cell, method_name
from evals.report.paper import PaperRow

__all__ = [
    "REALISED",
    "UNBIASED",
    "EntropyPassRate",
    "InexactWalks",
    "Level",
    "Row",
    "StageTwoTotals",
    "Summary",
]

REALISED, UNBIASED = "realised", "unbiased"


@dataclass(frozen=True)
class StageTwoTotals:
    """What reallocation did, over all prompts and seeds.

    Attributes:
        how: "restart" or "resume".
        eligible: prompts that the rule considered; where little was left, not all got something.
        extra_granted: sequences beyond those of stage one that they were allowed.
        extra_used: those that came to be.
        tokens_per_extra: generated for one of them, discarded tokens included; None without any.
        pass_gained: what they added to Pass@M, mean over prompts.
    """

    how: str
    eligible: int
    extra_granted: int
    extra_used: int
    tokens_per_extra: float | None
    pass_gained: float


@dataclass(frozen=True)
class InexactWalks:
    """Where a nucleus reached, or may have reached, beyond the K tokens that a walk knows.

    Attributes:
        num_steps: stored steps, over all trees.
        num_trees: trees with such a step.
        of_trees: trees.
    """

    num_steps: int
    num_trees: int
    of_trees: int


@dataclass(frozen=True)
class Level:
    """A row's prompts of one level of difficulty; matched with Full Parallel within the level.

    Figures that need labels are None where there are none.
    """

    level: int
    num_prompts: int
    coverage: Estimate | None
    pass_rate: Estimate | None
    num_sequences: int
    tokens_generated: int
    matched: MatchedParallel | None = None

    def to_json(self) -> dict[str, Any]:
        """With the names of `summary.json`."""
        return {
            "level": self.level,
            "num_prompts": self.num_prompts,
            **_named("pass_at_k", self.coverage),
            **_named("pass_rate", self.pass_rate),
            "num_sequences": self.num_sequences,
            "tokens_generated": self.tokens_generated,
            **_matched(self.matched),
        }


@dataclass(frozen=True)
class Row:
    """One method at one M, θ and temperature, over all prompts and seeds.

    Attributes:
        estimator: how `coverage` came about: "realised", a correct sequence among those that there
            are, or "unbiased", of M independent sequences.
        estimated: whether the row follows from the sequences of a run with a larger M.
        coverage: Pass@M; None without labels.
        coverage_seeds: Pass@M, mean and standard error over seeds; None for one seed.
        cons: Cons@M, the share of prompts whose majority answer is correct; None without votes.
        pass_rate: mean correctness of a prompt's sequences; None without labels.
        num_sequences: #S.
        counts: tokens and requests; of an estimated row only the tokens, in proportion to M, as
            are its seconds.
        wall_seconds: None where nobody measured.
        stage_two: None for a method without one.
        matched: what Full Parallel reaches with the same tokens; None if it was not run.
        judged: what became of the sequences; None where the row was estimated.
        paper: what the paper reports of the same; None where it reports nothing.
        adaptive_threshold: what became of an adaptive θ; None where it is fixed.
        inexact: None for a method that does not walk, and where the row was estimated.
        num_failed: prompts, each seed's counted for itself, that failed and are in no figure.
    """

    method: str
    max_sequences: int
    threshold: float | None
    temperature: float
    seeds: tuple[int, ...]
    num_prompts: int
    estimator: str
    estimated: bool
    coverage: Estimate | None
    coverage_seeds: Estimate | None
    cons: Estimate | None
    pass_rate: Estimate | None
    num_sequences: int
    counts: TokenCounts
    wall_seconds: float | None
    stage_two: StageTwoTotals | None = None
    matched: MatchedParallel | None = None
    levels: tuple[Level, ...] = ()
    judged: JudgedCounts | None = None
    paper: PaperRow | None = None
    adaptive_threshold: AdaptiveTheta | None = None
    inexact: InexactWalks | None = None
    num_failed: int = 0

    def unlabelled(self) -> Row:
        """The row without the figures that mean nothing where no answer is known."""
        none: dict[str, Any] = {"coverage": None, "pass_rate": None, "matched": None}
        levels = tuple(replace(level, **none) for level in self.levels)
        return replace(self, **none, coverage_seeds=None, cons=None, levels=levels)

    @property
    def name(self) -> str:
        """The method, and whether its extra sequences resume."""
        return method_name(self.method, self.stage_two.how if self.stage_two else None)

    @property
    def theta(self) -> str:
        """As tables show it; empty for a method without."""
        return (
            AUTO
            if self.adaptive_threshold
            else ""
            if self.threshold is None
            else f"{self.threshold:g}"
        )

    @property
    def cached_share(self) -> float:
        """Of the prompt tokens sent, those that the radix tree served."""
        return self.counts.cached / self.counts.prompt if self.counts.prompt else 0.0

    def to_json(self) -> dict[str, Any]:
        """With the names of `summary.json`."""
        return {
            "method": self.method,
            "name": self.name,
            "max_sequences": self.max_sequences,
            "theta": AUTO if self.adaptive_threshold else self.threshold,
            "temperature": self.temperature,
            "seeds": list(self.seeds),
            "num_prompts": self.num_prompts,
            "num_failed": self.num_failed,
            "coverage": self.estimator,
            "estimated": self.estimated,
            **_named("pass_at_k", self.coverage),
            "pass_at_k_stderr_seeds": self.coverage_seeds and self.coverage_seeds.stderr,
            **_named("cons_at_k", self.cons),
            **_named("pass_rate", self.pass_rate),
            "stderr_over": "prompts, each averaged over seeds",
            "num_sequences": self.num_sequences,
            "tokens_generated": self.counts.generated,
            "tokens_unique": self.counts.unique,
            "tokens_naive": self.counts.naive,
            "tokens_discarded": self.counts.discarded,
            "tokens_forced": self.counts.forced,
            "tokens_prefilled": None if self.estimated else self.counts.prefilled,
            "prompt_tokens": None if self.estimated else self.counts.prompt,
            "cached_tokens": None if self.estimated else self.counts.cached,
            "num_requests": None if self.estimated else self.counts.requests,
            "wall_seconds": self.wall_seconds,
            "stage_two": vars(self.stage_two) if self.stage_two else None,
            "judged": self.judged.to_json() if self.judged else None,
            "adaptive_theta": asdict(self.adaptive_threshold) if self.adaptive_threshold else None,
            "inexact_walks": vars(self.inexact) if self.inexact else None,
            "paper": self.paper.to_json() if self.paper else None,
            **_matched(self.matched),
            "levels": [level.to_json() for level in self.levels],
        }


def _named(name: str, value: Estimate | None) -> dict[str, float | None]:
    return {
        name: value.value if value else None,
        f"{name}_stderr": value.stderr if value else None,
    }


def _matched(matched: MatchedParallel | None) -> dict[str, Any]:
    interval = matched.interval if matched else None
    return {
        "matched_parallel_k": matched.k if matched else None,
        **_named("matched_parallel_pass_at_k", matched.pass_at_k if matched else None),
        "matched_difference": matched.difference if matched else None,
        "matched_difference_ci95": list(interval) if interval else None,
        "matched_verdict": matched.verdict if matched else None,
    }


@dataclass(frozen=True)
class EntropyPassRate:
    """Peak entropy of a prompt against its pass rate, by EAGer-init at its largest M.

    Attributes:
        overall: over all prompts.
        levels: within each level.
    """

    max_sequences: int
    threshold: float | None
    temperature: float
    overall: Correlation
    levels: tuple[tuple[int, Correlation], ...]

    def to_json(self) -> dict[str, Any]:
        """With the names of `summary.json`."""
        return {
            **_correlation(self.overall),
            "max_sequences": self.max_sequences,
            "theta": AUTO if self.threshold is None else self.threshold,
            "temperature": self.temperature,
            "levels": [
                {"level": level, **_correlation(correlation)} for level, correlation in self.levels
            ],
        }


def _correlation(correlation: Correlation) -> dict[str, Any]:
    return {
        "spearman": correlation.spearman,
        "p_value": correlation.p_value,
        "n": correlation.count,
    }


@dataclass(frozen=True)
class Summary:
    """A run in figures.

    Attributes:
        header: what the run is, as in `config.json`.
        rows: by temperature, method, θ and M.
        missing: prompts that a partial run still lacks, by cell; empty for a complete one.
        num_failed: of these, those that have failed.
        failures: why; a prompt whose first stage failed lacks the methods of two stages as well.
        stage_two_contrasts: restart and resume at equal extra sequences, where both were run.
        findings: where a method beats Full Parallel at equal tokens and where it does not, in
            sentences that follow from the rows.
        notes: how the figures came about, and what they do not say.
    """

    header: RunHeader
    rows: tuple[Row, ...]
    entropy_pass_rate: EntropyPassRate | None
    missing: Mapping[Cell, int] = field(default_factory=dict)
    num_failed: int = 0
    failures: tuple[Failure, ...] = ()
    stage_two_contrasts: tuple[StageTwoContrast, ...] = ()
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        entropy = self.entropy_pass_rate
        return {
            **self.header.to_json(),
            "partial": bool(self.missing),
            "missing": [_lacking(*item) for item in self.missing.items()],
            "num_failed": self.num_failed,
            "failures": [_failure(failure) for failure in self.failures],
            "rows": [row.to_json() for row in self.rows],
            "entropy_pass_rate": entropy.to_json() if entropy else None,
            "stage_two_contrasts": [asdict(contrast) for contrast in self.stage_two_contrasts],
            "findings": list(self.findings),
            "notes": list(self.notes),
        }


def _lacking(cell: Cell, num_missing: int) -> dict[str, Any]:
    return _place(cell) | {"num_missing": num_missing}


def _failure(failure: Failure) -> dict[str, Any]:
    own = ("sample_id", "line", "stage", "error", "reason")
    return _place(failure.cell) | {name: getattr(failure, name) for name in own}


def _place(cell: Cell) -> dict[str, Any]:
    values = cell._asdict()
    threshold = values.pop("threshold")
    return values | {"theta": AUTO if cell.is_adaptive else threshold}
