"""Best of n: a reward picks one of a method's sequences.

.venv/bin/python programs/best_of_n.py "make 94 from 61 07 13 29"
"""

from __future__ import annotations

import re
from collections.abc import Callable

from eager_sgl import (
    BestFirst,
    Client,
    Method,
    Prompt,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    Sequence,
)
from programs._demo import command, messages

__all__ = ["Reward", "best_of_n"]

Reward = Callable[[Sequence], float]
"""How good a sequence is: a reward model, the number of tests that pass, a verifier's 0 or 1."""


def best_of_n(
    client: Client, prompt: Prompt, method: Method, reward: Reward
) -> tuple[Sequence, float, PromptResult]:
    """The sequence of the highest reward, its reward, and all sequences.

    Ties go to the sequence that was opened first.
    """
    result = client.generate(prompt, method)
    rewards = [reward(sequence) for sequence in result.sequences]
    best = max(rewards)
    return result.sequences[rewards.index(best)], best, result


def closeness(sequence: Sequence) -> float:
    """How close the bundled model came to the target, by its own verdict: "~94=03 no" is -3."""
    verdicts = re.findall(r"~\d+=(\d+)", sequence.text)
    return -int(verdicts[-1]) if verdicts else -100


def main() -> None:
    with (
        command(__doc__, "make 94 from 61 07 13 29") as (url, api_key, questions),
        Client(url, api_key=api_key) as client,
    ):
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=256)
        method = BestFirst(SearchConfig(max_sequences=16, sampling=sampling))
        for question in questions:
            best, reward, result = best_of_n(client, messages(question), method, closeness)
            print(
                f"{question}: {best.final_text} (reward {reward:g}, the best of "
                f"{len(result.sequences)} sequences, {result.counts.generated} tokens)"
            )


if __name__ == "__main__":
    main()
