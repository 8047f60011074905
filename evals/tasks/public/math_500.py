"""MATH-500: 500 questions of the MATH test set in five levels.

The revision is that of ai-dynamo/aiperf, `math-500`; the columns (problem, solution, answer,
subject, level, unique_id; split test) are those that lighteval 0.13.0 reads in
`lighteval/tasks/tasks/math_500.py` and the dataset's card lists.
"""

from evals.tasks.benchmark import MathBenchmark
from evals.tasks.hub import Source

__all__ = ["TASK"]

TASK = MathBenchmark(
    name="math_500",
    source=Source(
        path="HuggingFaceH4/MATH-500",
        split="test",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        columns=("unique_id", "problem", "answer", "level"),
    ),
    identifier="unique_id",
    question="problem",
    answer="answer",
    level="level",
)
