"""Tasks over public datasets: a source, and how a row becomes a prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from evals.grading.score import Score
from evals.tasks.graders import GRADERS
from evals.tasks.hub import DatasetRow, Source, load_rows
from evals.tasks.task import Defaults, Sample, choose, user_message

__all__ = ["DEFAULTS", "Benchmark", "MathBenchmark"]

DEFAULTS = Defaults(
    threshold=None, max_new_tokens=32768, chunk_tokens=64, answer_start="\n\n\\boxed{"
)
"""The paper's 32k tokens; θ belongs to the model, so a preset or the command line gives it."""

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
"""The instruction that the model cards of Qwen3 and DeepSeek-R1 give for mathematics."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A task over the rows of a source.

    Attributes:
        copy: a file or folder that is read instead of the hub.
    """

    name: str
    source: Source
    copy: Path | None = None
    defaults: Defaults = DEFAULTS

    can_vote: bool = field(default=True, init=False)
    has_labels: bool = field(default=True, init=False)
    needs_isolation: bool = field(default=False, init=False)

    def using(self, copy: Path) -> Self:
        """The same task on a copy of its dataset."""
        return replace(self, copy=copy)

    def to_json(self) -> dict[str, object]:
        """The dataset, for `config.json`."""
        return self.source.to_json() | {"copy": str(self.copy) if self.copy else None}

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        samples = [self.sample(row) for row in load_rows(self.source, self.copy)]
        return choose(samples, limit, levels, seed)

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def sample(self, row: DatasetRow) -> Sample:
        """A question as a prompt, with its reference answer."""

    @abstractmethod
    def score(self, sample: Sample, text: str) -> Score: ...

    @abstractmethod
    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]: ...


@dataclass(frozen=True, kw_only=True)
class MathBenchmark(Benchmark):
    """Questions with a single answer, to be put into a box.

    Attributes:
        question: the column with the question.
        answer: the column with the answer.
        identifier: the column with a question's id; None numbers the rows.
        level: the column with the level of difficulty, 1 the easiest.
        grader: a key of `evals.tasks.graders.GRADERS`.
    """

    question: str
    answer: str
    identifier: str | None = None
    level: str | None = None
    grader: str = "math"

    def sample(self, row: DatasetRow) -> Sample:
        values = row.values
        return Sample(
            id=str(values[self.identifier]) if self.identifier else row.key,
            prompt=user_message(f"{values[self.question].strip()}\n\n{BOXED}"),
            level=int(values[self.level]) if self.level else None,
            reference=self.gold(str(values[self.answer])),
        )

    def gold(self, answer: str) -> str:
        """The reference answer that a cell holds."""
        return answer.strip()

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        return GRADERS[self.grader].libraries

    def score(self, sample: Sample, text: str) -> Score:
        return GRADERS[self.grader].score(text, sample.reference)

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        return GRADERS[self.grader].classes(answers)
