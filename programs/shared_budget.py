"""Many prompts with one token budget: easy prompts leave tokens to those with uncertain votes.

.venv/bin/python programs/shared_budget.py "make 12 from 07 05" "make 94 from 61 07 13 29"
"""

from __future__ import annotations

from collections.abc import Sequence

from eager_sgl import (
    Client,
    Prompt,
    PromptResult,
    SamplingConfig,
    Search,
    SearchConfig,
    TokenLedger,
    TrieParallel,
    VoteUncertainty,
)
from programs._demo import command, final_answer, messages
from programs.vote import Extract, majority, tried

__all__ = ["answer_together"]

PROMPTS_PER_ROUND = 4
"""Prompts per round that runs at the same time; with one per prompt, bids would not matter."""


def answer_together(
    prompts: Sequence[Prompt], search: Search, extract: Extract, tokens: int, client: Client
) -> list[PromptResult]:
    """Search all prompts at once.

    Args:
        prompts: at least one.
        search: the search of every prompt.
        extract: the text of a sequence -> its answer; prompts whose answers disagree get more
            sequences.
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
    items = client.map(prompts, search, budget=ledger, utility=uncertainty)
    return [item.result for item in sorted(items, key=lambda item: item.index)]


def main() -> None:
    defaults = "make 12 from 07 05", "make 24 from 20 04", "make 94 from 61 07 13 29"
    with (
        command(__doc__, *defaults) as (url, api_key, questions),
        Client(url, api_key=api_key) as client,
    ):
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=256)
        search = TrieParallel(SearchConfig(max_sequences=32, width=4, sampling=sampling))
        results = answer_together(
            [messages(question) for question in questions], search, final_answer, 300, client
        )
        for question, result in zip(questions, results, strict=True):
            answer, _ = majority(result, final_answer)
            print(
                f"{question}: {answer} ({len(result.sequences)} sequences, "
                f"{result.counts.generated} tokens)"
            )


if __name__ == "__main__":
    main()
