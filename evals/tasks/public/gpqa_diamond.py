"""GPQA-Diamond: 198 questions of natural science, in a copy with fixed, shuffled choices.

In this copy the question ends with its choices, "A. …" to "D. …" on separate lines, and the answer
is the letter of the right choice (columns question, answer; split test). The revision is the only
one known to the hub's cache and to several public evaluation harnesses.
"""

from evals.tasks.choices import ChoiceBenchmark
from evals.tasks.hub import Source

__all__ = ["TASK"]

TASK = ChoiceBenchmark(
    name="gpqa_diamond",
    source=Source(
        path="fingertap/GPQA-Diamond",
        split="test",
        revision="68be7564497676e07a77a042fdb587deb88c51c3",
        columns=("question", "answer"),
    ),
)
