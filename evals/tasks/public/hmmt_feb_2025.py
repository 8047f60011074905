"""HMMT February 2025: 30 questions whose answers are mathematical expressions.

The revision is that of scitix/sieval, `HMMT_FEB_2025_REVISION`; the columns (problem_idx, problem,
answer, problem_type; split train) are those that MathArena's loaders read.
"""

from evals.tasks.benchmark import MathBenchmark
from evals.tasks.hub import Source

__all__ = ["TASK"]

TASK = MathBenchmark(
    name="hmmt_feb_2025",
    source=Source(
        path="MathArena/hmmt_feb_2025",
        split="train",
        revision="6fdc4277120810ff75aa22d2d5489b91f7a262a1",
        columns=("problem_idx", "problem", "answer"),
    ),
    identifier="problem_idx",
    question="problem",
    answer="answer",
)
