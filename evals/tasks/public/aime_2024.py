"""AIME 2024, both papers: 30 questions whose answers are integers from 0 to 999.

The revision and the columns (ID, Problem, Solution, Answer; split train) are those of inspect_evals
0.26.0, `inspect_evals/aime2024/aime2024.py`; ai-dynamo/aiperf pins the same revision.
"""

from evals.tasks.benchmark import MathBenchmark
from evals.tasks.hub import Source

__all__ = ["TASK"]

TASK = MathBenchmark(
    name="aime_2024",
    source=Source(
        path="Maxwell-Jia/AIME_2024",
        split="train",
        revision="8d88b2876a82a080e2f172cc9b25d0d9d2cb4792",
        columns=("ID", "Problem", "Answer"),
    ),
    identifier="ID",
    question="Problem",
    answer="Answer",
    grader="integer",
)
