"""Questions with four choices, answered with a letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.grading.score import Score
from evals.tasks.benchmark import Benchmark
from evals.tasks.graders import GRADERS
from evals.tasks.hub import DatasetError, DatasetRow
from evals.tasks.task import Sample, user_message

__all__ = ["LETTERS", "ChoiceBenchmark"]

LETTERS = "ABCD"
INSTRUCTION = (
    "Please reason step by step, and put the letter of the right choice, and nothing else, within "
    "\\boxed{}."
)


@dataclass(frozen=True, kw_only=True)
class ChoiceBenchmark(Benchmark):
    """Questions that list their choices, with a letter as the answer.

    Attributes:
        question: the column with the question.
        answer: the column with the letter.
    """

    question: str = "question"
    answer: str = "answer"

    def sample(self, row: DatasetRow) -> Sample:
        letter = row.values[self.answer].strip()
        if letter not in LETTERS or len(letter) != 1:
            raise DatasetError(
                f"{self.name}: the answer of row {row.key} is {letter!r}; expected one of {LETTERS}"
            )
        return self.choice_sample(row.key, row.values[self.question].strip(), letter)

    def choice_sample(self, sample_id: str, question: str, letter: str) -> Sample:
        """A question, its choices included, as a prompt."""
        return Sample(sample_id, user_message(f"{question}\n\n{INSTRUCTION}"), None, letter)

    def score(self, sample: Sample, text: str) -> Score:
        return GRADERS["letter"].score(text, sample.reference)

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        return GRADERS["letter"].classes(answers)
