"""AIME 2025, both papers: 30 questions whose answers are integers from 0 to 999.

The revision, the two configurations and the columns (question, answer; split test) are those of
scitix/sieval, `AIME_2025_REVISION`.
"""

from evals.tasks.benchmark import MathBenchmark
from evals.tasks.hub import Source

__all__ = ["TASK"]

TASK = MathBenchmark(
    name="aime_2025",
    source=Source(
        path="opencompass/AIME2025",
        names=("AIME2025-I", "AIME2025-II"),
        split="test",
        revision="a6ad95f611d72cf628a80b58bd0432ef6638f958",
        columns=("question", "answer"),
    ),
    question="question",
    answer="answer",
    grader="integer",
)
