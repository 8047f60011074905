"""The number of prompts that a number of tokens allows, from a pilot of Full Parallel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from evals.analysis.intervals import MIN_PROMPTS
from evals.records.folder import SUMMARY
from evals.records.header import read_header
from evals.records.plan import Plan
from evals.records.results import RESULTS, read_results

__all__ = ["NUM_PILOT", "Sizing", "TooFewTokensError", "num_generated", "num_runs", "pilot_of"]

NUM_PILOT = 8
"""Prompts of the pilot, spread over the levels."""


class TooFewTokensError(Exception):
    """The tokens do not suffice for a comparison; the message says how many would."""


@dataclass(frozen=True)
class Sizing:
    """What a pilot has measured.

    Attributes:
        spent: tokens that the pilot generated.
        per_prompt: tokens that Full Parallel generates for a prompt with M sequences.
    """

    spent: int
    per_prompt: float

    def num_prompts(self, tokens: int, num_runs: float) -> int:
        """Prompts for which all methods together generate about `tokens`, the pilot included.

        A method is supposed to generate as many tokens as Full Parallel. Most generate fewer.

        Args:
            tokens: of the whole proof.
            num_runs: of Full Parallel with M sequences, which all cells are as large as.

        Raises:
            TooFewTokensError: they suffice for fewer than 10 prompts, which give no verdict.
        """
        number = int((tokens - self.spent) / (self.per_prompt * num_runs))
        if number >= MIN_PROMPTS:
            return number
        needed = self.spent + MIN_PROMPTS * self.per_prompt * num_runs
        raise TooFewTokensError(
            f"--tokens {tokens:,} allows {max(number, 0)} prompts in {num_runs:g} runs of about "
            f"{self.per_prompt:,.0f} tokens a prompt; {MIN_PROMPTS} need {needed:,.0f}"
        )


def num_runs(plan: Plan) -> float:
    """The cells of a plan, each by its sequences as a share of M: Full Parallel may have more."""
    return sum(cell.max_sequences for cell in plan.cells) / max(plan.max_sequences)


def pilot_of(folder: Path) -> Sizing:
    """The sizing of a complete pilot; the mean over its temperatures."""
    rows = json.loads((folder / SUMMARY).read_text())["rows"]
    tokens = sum(row["tokens_generated"] for row in rows)
    return Sizing(num_generated(folder), tokens / sum(row["num_prompts"] for row in rows))


def num_generated(folder: Path) -> int:
    """Tokens that the server decoded for the results of a run; a first stage counts once."""
    records, _ = read_results(folder / RESULTS, read_header(folder).config.plan.cells)
    return sum(r.stage_two.generated if r.stage_two else r.counts.generated for r in records)
