"""The number of prompts that a number of tokens allows, from a pilot of Full Parallel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from evals.analysis.intervals import MIN_PROMPTS
from evals.records.folder import SUMMARY

__all__ = ["NUM_PILOT", "Sizing", "TooFewTokensError", "pilot_of"]

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

    def num_prompts(self, tokens: int, num_runs: int) -> int:
        """Prompts for which all methods together generate about `tokens`, the pilot included.

        A method is supposed to generate as many tokens as Full Parallel. Most generate fewer.

        Args:
            tokens: of the whole proof.
            num_runs: methods times seeds.

        Raises:
            TooFewTokensError: they suffice for fewer than 10 prompts, which give no verdict.
        """
        number = int((tokens - self.spent) / (self.per_prompt * num_runs))
        if number >= MIN_PROMPTS:
            return number
        needed = self.spent + MIN_PROMPTS * self.per_prompt * num_runs
        raise TooFewTokensError(
            f"--tokens {tokens:,} allows {max(number, 0)} prompts in {num_runs} runs of about "
            f"{self.per_prompt:,.0f} tokens a prompt; {MIN_PROMPTS} need {needed:,.0f}"
        )


def pilot_of(folder: Path) -> Sizing:
    """The sizing of a complete pilot."""
    row = json.loads((folder / SUMMARY).read_text())["rows"][0]
    return Sizing(row["tokens_generated"], row["tokens_generated"] / row["num_prompts"])
