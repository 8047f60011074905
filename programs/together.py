"""Many prompts with one token budget: easy prompts leave tokens to those with uncertain votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eager_sgl import (
    Prompt,
    PromptResult,
    Search,
    TokenEndpoint,
    TokenLedger,
    VoteUncertainty,
    generate_all,
)
from programs.vote import Extract, tried

__all__ = ["answer_together"]

PROMPTS_PER_ROUND = 4
"""Prompts per round that runs at the same time; with one per prompt, bids would not matter."""


def answer_together(
    prompts: Sequence[Prompt],
    search: Search,
    extract: Extract,
    tokens: int,
    backend: TokenEndpoint,
) -> list[PromptResult]:
    """Search all prompts at once.

    Args:
        prompts: at least one.
        search: the search of every prompt, without a bidder.
        tokens: mean number of generated tokens per prompt.

    Raises:
        ValueError, ServerError: the error of the first prompt that failed, once all have ended.
    """
    ledger = TokenLedger(
        tokens * len(prompts), max_running=max(1, len(prompts) // PROMPTS_PER_ROUND)
    )
    answer_of = tried(extract)
    uncertainty = VoteUncertainty(
        lambda sequences: [answer_of(sequence.text) for sequence in sequences]
    )
    # All join before the first starts: nothing is granted before all have bid.
    searches = [replace(search, bidder=ledger.join(uncertainty)) for _ in prompts]
    return generate_all(prompts, searches, backend, num_threads=len(prompts))
