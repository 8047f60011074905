"""Many prompts, one budget of tokens: what easy ones save goes where the answer is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eager_sgl import (
    PromptResult,
    TokenEndpoint,
    TokenLedger,
    VoteUncertainty,
    generate_all,
)
from eager_sgl.engine.endpoint import Prompt
from eager_sgl.methods import Search
from programs.vote import Extract, tried

__all__ = ["answer_together"]

PROMPTS_PER_ROUND = 4
"""With as many rounds at once as there are prompts, nobody would have to bid for one."""


def answer_together(
    prompts: Sequence[Prompt],
    search: Search,
    extract: Extract,
    tokens: int,
    backend: TokenEndpoint,
) -> list[PromptResult]:
    """Search all prompts at once, each in a thread of its own.

    Args:
        prompts: one at least.
        search: its `max_sequences` is the most that any prompt gets.
        tokens: that may be generated for a prompt, on average over all.

    Raises:
        ValueError, ServerError: of the first prompt that failed, once all have ended.
    """
    ledger = TokenLedger(
        tokens * len(prompts), max_running=max(1, len(prompts) // PROMPTS_PER_ROUND)
    )
    answer_of = tried(extract)
    uncertainty = VoteUncertainty(
        lambda sequences: [answer_of(sequence.text) for sequence in sequences]
    )
    # All join before the first begins: nothing is granted before all of them have bid.
    searches = [replace(search, bidder=ledger.join(uncertainty)) for _ in prompts]
    return generate_all(prompts, searches, backend, num_threads=len(prompts))
