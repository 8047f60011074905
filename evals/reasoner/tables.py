"""The Markdown tables of the model card, from samples of its problems."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.stats import spearmanr

from evals.tasks.countdown_rules import Problem

__all__ = ["MeasuredProblem", "correlation_table", "level_table", "parallel_table"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
PARALLEL_SIZES = (1, 2, 4, 6, 8, 12, 16, 32)


@dataclass(frozen=True)
class MeasuredProblem:
    """Figures of the samples of a problem; entropies in nats."""

    problem: Problem
    correct: list[bool]
    num_tokens: list[int]
    num_truncated: int
    entropies: list[float]
    peak_entropy: float

    @property
    def pass_rate(self) -> float:
        return float(np.mean(self.correct))


def level_table(measured: list[MeasuredProblem]) -> Iterator[str]:
    num_samples = len(measured[0].correct)
    quantiles = " | ".join(f"H {quantile:.1%}" for quantile in QUANTILES)
    header = f"level | prompts | pass rate | pass@{num_samples} | tokens | p95 | truncated"
    yield f"| {header} | {quantiles} | mean peak |"
    yield "|" + "---|" * (8 + len(QUANTILES))
    for level, group in sorted(by_level(measured).items()):
        yield "| " + " | ".join(level_cells(level, group)) + " |"
    yield "| " + " | ".join(level_cells("all", measured)) + " |"


def by_level(measured: Iterable[MeasuredProblem]) -> dict[int, list[MeasuredProblem]]:
    groups: dict[int, list[MeasuredProblem]] = defaultdict(list)
    for row in measured:
        groups[row.problem.level].append(row)
    return groups


def level_cells(level: int | str, group: list[MeasuredProblem]) -> list[str]:
    rates = np.array([row.pass_rate for row in group])
    error = rates.std(ddof=1) / len(rates) ** 0.5
    tokens = np.concatenate([row.num_tokens for row in group])
    entropies = np.concatenate([row.entropies for row in group])
    return [
        str(level),
        str(len(group)),
        f"{rates.mean():.3f} ± {error:.3f}",
        f"{np.mean(rates > 0):.3f}",
        f"{tokens.mean():.0f}",
        f"{np.quantile(tokens, 0.95):.0f}",
        f"{sum(row.num_truncated for row in group) / len(tokens):.2%}",
        *(f"{value:.3f}" for value in np.quantile(entropies, QUANTILES)),
        f"{np.mean([row.peak_entropy for row in group]):.3f}",
    ]


def correlation_table(measured: list[MeasuredProblem]) -> Iterator[str]:
    """Spearman correlation of mean peak entropy with pass rate over prompts."""
    yield "| prompts | Spearman | p |"
    yield "|---|---|---|"
    groups = {"all levels": measured}
    groups |= {f"level {level}": group for level, group in sorted(by_level(measured).items())}
    for name, group in groups.items():
        peaks, rates = zip(*((row.peak_entropy, row.pass_rate) for row in group), strict=True)
        if len(set(rates)) == 1:
            yield f"| {name} | none: all prompts have the same pass rate | |"
            continue
        result = spearmanr(peaks, rates)
        yield f"| {name} | {result.statistic:.3f} | {result.pvalue:.1e} |"


def parallel_table(measured: list[MeasuredProblem]) -> Iterator[str]:
    """Full Parallel with k samples: tokens per prompt and unbiased pass@k."""
    num_samples = len(measured[0].correct)
    sizes = [size for size in PARALLEL_SIZES if size <= num_samples]
    num_tokens = np.mean([np.mean(row.num_tokens) for row in measured])
    rates = (np.mean([unbiased_pass(row.correct, size) for row in measured]) for size in sizes)
    yield "| k | " + " | ".join(map(str, sizes)) + " |"
    yield "|---|" + "---|" * len(sizes)
    yield "| tokens per prompt | " + " | ".join(f"{num_tokens * k:.0f}" for k in sizes) + " |"
    yield "| pass@k | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |"


def unbiased_pass(correct: list[bool], size: int) -> float:
    """Unbiased pass@k for k = `size`; `evals.analysis.metrics` has it, but is not imported here."""
    return 1 - comb(len(correct) - sum(correct), size) / comb(len(correct), size)
