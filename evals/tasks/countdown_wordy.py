"""Countdown for the wordy reasoner: the same prompts and rules, chains with redundant choices.

Its chains contain words and orders whose choice has the entropy of a decision and changes nothing.
So this task separates methods that branch at high entropy from methods that branch at decisions.
"""

from pathlib import Path

from evals.tasks.countdown import Countdown
from evals.tasks.task import Defaults

__all__ = ["TASK", "CountdownWordy"]


class CountdownWordy(Countdown):
    """Countdown, with the defaults of the wordy reasoner."""

    name = "countdown_wordy"
    defaults = Defaults(
        threshold=1.2,  # between ln 3 and ln 4, the entropies of two kinds of words
        max_new_tokens=256,
        chunk_tokens=32,
        limit=100,
        model=Path(__file__).parents[1] / "reasoner" / "wordy_model",
    )


TASK = CountdownWordy()
