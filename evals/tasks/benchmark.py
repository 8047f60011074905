"""What the tasks over public datasets have in common: a task is a source and how a row is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from evals.tasks import Defaults, Sample, Score, choose, user_message
from evals.tasks.graders import GRADERS
from evals.tasks.hub import Row, Source, load_rows

__all__ = ["BOXED", "DEFAULTS", "Benchmark", "MathBenchmark"]

DEFAULTS = Defaults(threshold=None, max_new_tokens=32768, chunk_tokens=64)
"""The paper's 32k tokens; θ belongs to the model, so a preset or the command line gives it."""

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
"""As the cards of Qwen3 and DeepSeek-R1 ask for mathematics."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A task over the rows of a source.

    Attributes:
        copy: a file or folder that is read in place of the hub.
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

    def to_json(self) -> dict[str, Any]:
        """The dataset, as `config.json` tells of it."""
        return self.source.to_json() | {"copy": str(self.copy) if self.copy else None}

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        samples = [self.sample(row) for row in load_rows(self.source, self.copy)]
        return choose(samples, limit, levels, seed)

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def sample(self, row: Row) -> Sample:
        """A question as a prompt, with what its answers are judged by."""

    @abstractmethod
    def score(self, sample: Sample, text: str) -> Score: ...

    @abstractmethod
    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]: ...


@dataclass(frozen=True, kw_only=True)
class MathBenchmark(Benchmark):
    """Questions with one answer, to be put into a box.

    Attributes:
        question: the column with the question.
        answer: the column with the answer.
        identifier: the column that names a question; None numbers them.
        level: the column with the level of difficulty, 1 the easiest.
        grader: of `evals.tasks.graders`.
    """

    question: str
    answer: str
    identifier: str | None = None
    level: str | None = None
    grader: str = "math"

    def sample(self, row: Row) -> Sample:
        values = row.values
        return Sample(
            id=str(values[self.identifier]) if self.identifier else row.key,
            prompt=user_message(f"{values[self.question].strip()}\n\n{BOXED}"),
            level=int(values[self.level]) if self.level else None,
            reference=self.gold(str(values[self.answer])),
        )

    def gold(self, answer: str) -> str:
        """The answer in its column, ready to be compared."""
        return answer.strip()

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        return GRADERS[self.grader].libraries

    def score(self, sample: Sample, text: str) -> Score:
        return GRADERS[self.grader].score(text, sample.reference)

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        return GRADERS[self.grader].classes(answers)
