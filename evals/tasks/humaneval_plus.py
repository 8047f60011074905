"""HumanEval+: 164 Python functions to write, each with the tests of evalplus.

The revision is the one that public harnesses pin for evalplus/humanevalplus; the columns (task_id,
prompt, canonical_solution, entry_point, test; split test) are those of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evals.tasks import Sample, Score, user_message
from evals.tasks.benchmark import Benchmark
from evals.tasks.hub import Row, Source

__all__ = ["INSTRUCTION", "TASK", "CodeBenchmark"]

INSTRUCTION = (
    "Complete this Python function. Give the whole function, with its signature and all imports "
    "that it needs, in one ```python block at the end of your answer."
)
COLUMNS = ("prompt", "entry_point", "test", "canonical_solution")


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(Benchmark):
    """Functions to write, judged by running them; two programs are never the same answer."""

    can_vote: bool = field(default=False, init=False)
    needs_isolation: bool = field(default=True, init=False)

    def sample(self, row: Row) -> Sample:
        from evals.grading.programs.code import CodeProblem

        values = row.values
        asked = f"{INSTRUCTION}\n\n```python\n{values['prompt'].strip()}\n```"
        problem = CodeProblem(**{column: values[column] for column in COLUMNS})
        return Sample(values["task_id"], user_message(asked), None, problem)

    def score(self, sample: Sample, text: str) -> Score:
        from evals.grading.programs.code import score

        return score(text, sample.reference)

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        return [None] * len(answers)


TASK = CodeBenchmark(
    name="humaneval_plus",
    source=Source(
        path="evalplus/humanevalplus",
        split="test",
        revision="d32357cf319e50e9c8d8dab5ea876c72b0fd321b",
        columns=("task_id", *COLUMNS),
    ),
)
