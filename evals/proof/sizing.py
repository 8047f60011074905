"""The number of prompts that a number of tokens allows, from a pilot of Full Parallel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.analysis.intervals import MIN_PROMPTS
from evals.records.folder import SUMMARY

__all__ = ["NUM_PILOT", "Sizing", "TooFewTokensError", "generated", "pilot_of"]

NUM_PILOT = 8
"""Prompts of the pilot, spread over the levels."""


class TooFewTokensError(Exception):
    """The tokens do not suffice for a comparison; the message says how many would."""


@dataclass(frozen=True)
class Sizing:
    """What a pilot has measured.

    Attributes:
        spent: tokens that the pilot generated.
        per_sequence: tokens that Full Parallel generates for a sequence.
    """

    spent: int
    per_sequence: float

    def num_prompts(self, tokens: int, num_sequences: int) -> int:
        """Prompts for which all methods together generate about `tokens`, the pilot included.

        A sequence of any method is supposed to cost as much as Full Parallel's. Most cost less.

        Args:
            tokens: of the whole proof.
            num_sequences: of a prompt at most, over all methods and seeds.

        Raises:
            TooFewTokensError: they suffice for fewer than 10 prompts, which give no verdict.
        """
        number = int((tokens - self.spent) / (self.per_sequence * num_sequences))
        if number >= MIN_PROMPTS:
            return number
        needed = self.spent + MIN_PROMPTS * self.per_sequence * num_sequences
        raise TooFewTokensError(
            f"--tokens {tokens:,} allows {max(number, 0)} prompts with {num_sequences} sequences, "
            f"over all methods, of about {self.per_sequence:,.0f} tokens; {MIN_PROMPTS} need "
            f"{needed:,.0f}"
        )


def pilot_of(folder: Path) -> Sizing:
    """The sizing of a complete pilot."""
    summary = json.loads((folder / SUMMARY).read_text())
    spent = generated(summary)
    num_prompts = sum(row["num_prompts"] for row in summary["rows"])
    return Sizing(spent, spent / (num_prompts * _parallel_sequences(summary)))


def generated(summary: Mapping[str, Any]) -> int:
    """The tokens that a run with a single M generated, from its summary."""
    number = _parallel_sequences(summary)
    return sum(_own_tokens(row, number) for row in summary["rows"])


def _parallel_sequences(summary: Mapping[str, Any]) -> int:
    """Sequences of a prompt that Full Parallel was run with, of which its row has M."""
    return int(summary["config"]["plan"]["parallel_sequences"])


def _own_tokens(row: Mapping[str, Any], parallel_sequences: int) -> int:
    """All of Full Parallel's, and none of a first stage, which has another row."""
    if row["estimated"]:
        return round(row["tokens_generated"] * parallel_sequences / row["max_sequences"])
    stage_two = row["stage_two"]
    if stage_two is None:
        return int(row["tokens_generated"])
    per_extra: float = stage_two["tokens_per_extra"] or 0.0
    return round(per_extra * int(stage_two["extra_used"]))
