"""A run's sequences with the judgements of the present answers and judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from eager_sgl import RULES
from evals.analysis.judged import Verdicts, classes_of
from evals.records.header import StoredConfig
from evals.records.judging import judged_by
from evals.records.plan import STAGE_ONE, Cell
from evals.records.record import PromptRecord, SequenceRecord
from evals.tasks import Sample, Task

__all__ = ["Rejudge", "granted_by_labels", "is_solved_at_first"]


class Rejudge:
    """Judges the results of a folder, prompt by prompt, each text once.

    Args:
        task: whose present judges and answers are used.
        samples: by id, of at least the results.
        reasoning_end: text that closes the reasoning; None where nothing does.
        config: of the run.
        records: the results.
    """

    def __init__(
        self,
        task: Task,
        samples: Mapping[str, Sample],
        reasoning_end: str | None,
        config: StoredConfig,
        records: Sequence[PromptRecord],
    ) -> None:
        self._task = task
        self._samples = samples
        self._records = records
        self._end = reasoning_end
        self._is_same_end = reasoning_end == config.eager.reasoning_end
        self._is_by_labels = config.verifier is None
        self._granted = granted_by_labels(records)

    def judge_all(self, concurrency: int) -> list[PromptRecord]:
        """The records with new judgements, in their order; so many prompts at a time."""
        by_prompt: dict[str, list[PromptRecord]] = {}
        for record in self._records:
            by_prompt.setdefault(record.sample_id, []).append(record)
        pool = ThreadPoolExecutor(concurrency)
        try:
            judged = pool.map(self._judge_prompt, by_prompt.values())
            new = {record.key: record for records in judged for record in records}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return [new[record.key] for record in self._records]

    def _judge_prompt(self, records: Sequence[PromptRecord]) -> list[PromptRecord]:
        """All results of one prompt."""
        sample = self._samples[records[0].sample_id]
        verdicts = Verdicts(self._task, sample)
        return [self._judge_record(record, sample, verdicts) for record in records]

    def _judge_record(
        self, record: PromptRecord, sample: Sample, verdicts: Verdicts
    ) -> PromptRecord:
        texts = [self._final_text(sequence) for sequence in record.sequences]
        scores = [verdicts.judge(text) for text in texts]
        votes = classes_of(self._task, sample, [score.answer for score in scores])
        sequences = tuple(
            replace(
                sequence,
                answer=score.answer,
                correct=score.correct,
                explanation=score.explanation,
                status=score.status,
                vote=vote,
                final_text=text,
            )
            for sequence, text, score, vote in zip(
                record.sequences, texts, scores, votes, strict=True
            )
        )
        return replace(
            record,
            level=sample.level,
            sequences=sequences,
            solved=self._solved(record, sequences),
            judged_by=judged_by(self._task, sample),
        )

    def _final_text(self, sequence: SequenceRecord) -> str:
        """The text that was judged; if that is unknown, or the end has changed, what follows it."""
        if sequence.final_text is not None and self._is_same_end:
            return sequence.final_text
        if self._end is None:
            return sequence.text
        _, closed, after = sequence.text.partition(self._end)
        return after if closed else sequence.text

    def _solved(self, record: PromptRecord, sequences: Sequence[SequenceRecord]) -> bool | None:
        """Unchanged where a verifier decided it, or extra sequences were granted by it."""
        if record.solved is None or not self._is_by_labels:
            return record.solved
        if _stage_one(record.cell) in self._granted:
            return record.solved
        return is_solved_at_first(sequences)


def is_solved_at_first(sequences: Iterable[SequenceRecord]) -> bool:
    """Whether a sequence of the first stage is correct."""
    return any(sequence.correct for sequence in sequences if sequence.stage == 1)


def _stage_one(cell: Cell) -> Cell:
    return cell._replace(method=STAGE_ONE, stage_two=None)


def granted_by_labels(records: Iterable[PromptRecord]) -> set[Cell]:
    """First stages whose judgements have given extra sequences to some prompts."""
    return {
        _stage_one(record.cell)
        for record in records
        if record.stage_two is not None and RULES[record.method].needs_labels
    }
