"""HumanEval+: 164 Python functions to write, with the tests of evalplus.

The revision is that which public harnesses pin for evalplus/humanevalplus; the columns (task_id,
prompt, canonical_solution, entry_point, test; split test) are those of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evals.grading import programs
from evals.grading.score import Score
from evals.tasks.benchmark import Benchmark
from evals.tasks.hub import DatasetRow, Source
from evals.tasks.task import Sample, user_message

__all__ = ["TASK", "CodeBenchmark"]

INSTRUCTION = (
    "Complete this Python function. Give the whole function, with its signature and all imports "
    "that it needs, in one ```python block at the end of your answer."
)
COLUMNS = ("prompt", "entry_point", "test", "canonical_solution")


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(Benchmark):
    """Functions to write, judged by running them; programs do not vote."""

    can_vote: bool = field(default=False, init=False)
    needs_isolation: bool = field(default=True, init=False)

    def sample(self, row: DatasetRow) -> Sample:
        values = row.values
        prompt = f"{INSTRUCTION}\n\n```python\n{values['prompt'].strip()}\n```"
        problem = programs.CodeProblem(**{column: values[column] for column in COLUMNS})
        return Sample(values["task_id"], user_message(prompt), None, problem)

    def score(self, sample: Sample, text: str) -> Score:
        return programs.score(text, sample.reference)

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
