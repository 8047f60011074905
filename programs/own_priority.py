"""A priority of one's own for best-first search: early near ties first.

.venv/bin/python programs/own_priority.py "make 94 from 61 07 13 29"
.venv/bin/python evals/run.py --methods parallel,best_first --priority programs.own_priority:TIES
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl import BestFirst, Client, SamplingConfig, SearchConfig
from eager_sgl.search import NO_RESHAPING, Candidates, Reshaping
from programs._demo import command, messages

__all__ = ["TIES", "EarlyTies"]


@dataclass(frozen=True)
class EarlyTies:
    """ln of the probability of the untried token over that of the taken one, less for later steps.

    Attributes:
        scale: number of tokens that weigh as much as a factor e of the probabilities.
        min_probability: of the untried token.
        reshaping: every priority has one; this one sees the model's own distributions.
    """

    scale: float = 40.0
    min_probability: float = 0.02
    reshaping: Reshaping = NO_RESHAPING

    def __call__(self, candidates: Candidates) -> NDArray[np.float64]:
        """A value per candidate [n]: the highest is opened first, −inf never."""
        ratios = np.log(candidates.probabilities / candidates.taken_probabilities)
        values = ratios - candidates.positions / self.scale
        return np.where(candidates.probabilities >= self.min_probability, values, -np.inf)


TIES = EarlyTies()


def main() -> None:
    with (
        command(__doc__, "make 94 from 61 07 13 29") as (url, api_key, questions),
        Client(url, api_key=api_key) as client,
    ):
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=256)
        search = BestFirst(SearchConfig(max_sequences=8, width=1, sampling=sampling), priority=TIES)
        for question in questions:
            print(question)
            for sequence in client.generate(messages(question), search).sequences:
                if sequence.branch is not None:
                    value, position = sequence.branch.priority, sequence.branch.position
                    start = f"branches off {sequence.parent} at {position}, value {value:.2f}"
                else:
                    start = "is sampled"
                print(f"  {start}: {sequence.final_text}")


if __name__ == "__main__":
    main()
