"""Judgements: made so that none ends a run, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eager_sgl import Sequence as Generated
from evals.analysis.diagnostics import ends_in_a_loop
from evals.grading.score import Score
from evals.grading.votes import vote_classes
from evals.records.record import PromptRecord
from evals.tasks import Sample, Task

__all__ = ["JudgedCounts", "Verdicts", "classes_of", "count_judged", "is_solved", "judge"]


def judge(task: Task, sample: Sample, text: str) -> Score:
    """A task's judgement on a text; where its judge fails, a score that says so."""
    try:
        return task.score(sample, text)
    except Exception as error:
        return Score(False, None, f"the judge failed: {error!r}", status="unjudged")


def classes_of(task: Task, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
    """A task's classes of equivalent answers; where it fails, those of equal texts."""
    try:
        return task.classes(sample, answers)
    except Exception:
        return vote_classes(answers)


class Verdicts:
    """A task's judgements on what was generated for a sample; each text is judged once."""

    def __init__(self, task: Task, sample: Sample) -> None:
        self._task = task
        self._sample = sample
        self._scores: dict[str, Score] = {}

    def score(self, sequence: Generated) -> Score:
        """The judgement on a sequence."""
        return self.judge(sequence.final_text)

    def judge(self, text: str) -> Score:
        """The judgement on what follows the reasoning of a sequence."""
        if text not in self._scores:
            self._scores[text] = judge(self._task, self._sample, text)
        return self._scores[text]

    def is_correct(self, sequence: Generated) -> bool:
        """By the labels."""
        return self.score(sequence).correct

    def classes(self, sequences: Sequence[Generated]) -> list[int | None]:
        """Sequences with equivalent answers; no label is looked at."""
        answers = [self.score(sequence).answer for sequence in sequences]
        return classes_of(self._task, self._sample, answers)


def is_solved(record: PromptRecord) -> bool | None:
    """Whether a sequence of a prompt is correct; None where none of them was judged."""
    if all(sequence.status == "unjudged" for sequence in record.sequences):
        return None
    return any(record.correct)


@dataclass(frozen=True)
class JudgedCounts:
    """The judgements on a row's sequences, over all prompts and seeds.

    Attributes:
        num_judged: those with a judgement.
        num_unjudged: those that the judge failed on, or had nothing to judge by.
        num_timed_out: those that judging took too long for.
        num_truncated: those that were cut at the length limit, judged or not.
        num_repetition: of these, those that end in a repetition.
    """

    num_judged: int
    num_unjudged: int
    num_timed_out: int
    num_truncated: int
    num_repetition: int


def count_judged(records: Iterable[PromptRecord]) -> JudgedCounts:
    """Counts over all sequences of a row's records."""
    sequences = [sequence for record in records for sequence in record.sequences]
    by_status = Counter(sequence.status for sequence in sequences)
    truncated = [sequence for sequence in sequences if sequence.finish_reason == "length"]
    return JudgedCounts(
        num_judged=by_status["judged"],
        num_unjudged=by_status["unjudged"],
        num_timed_out=by_status["timed_out"],
        num_truncated=len(truncated),
        num_repetition=sum(ends_in_a_loop(sequence.token_ids) for sequence in truncated),
    )
