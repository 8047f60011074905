"""The sequences of a run's results with judgements of today: pure, but for the judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from eager_sgl.budget.reallocation import RULES
from evals.analysis.judged import Verdicts, classes_of
from evals.config import Settings
from evals.records.folder import Header
from evals.records.judging import judged_by
from evals.records.plan import STAGE_ONE, Cell
from evals.records.store import PromptRecord, SequenceRecord
from evals.tasks import Sample

__all__ = ["Rejudge", "granted_by_labels", "is_solved_at_first"]


class Rejudge:
    """Judges the results of a folder, prompt by prompt, each text once."""

    def __init__(
        self,
        settings: Settings,
        header: Header,
        records: Sequence[PromptRecord],
        samples: Mapping[str, Sample],
    ) -> None:
        self._settings = settings
        self._records = records
        self._samples = samples
        self._end = settings.experiment.base.reasoning_end
        self._is_same_end = self._end == header["config"]["eager"]["reasoning_end"]
        self._is_by_labels = header["config"].get("verifier") is None
        self._granted = granted_by_labels(records)

    def judge_all(self) -> list[PromptRecord]:
        """The records with new judgements, in their order."""
        places: dict[str, list[int]] = {}
        for place, record in enumerate(self._records):
            places.setdefault(record.sample_id, []).append(place)
        pool = ThreadPoolExecutor(self._settings.experiment.concurrency)
        try:
            judged = pool.map(self._judge_prompt, places, places.values())
            found = {place: record for records in judged for place, record in records}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return [found[place] for place in range(len(self._records))]

    def _judge_prompt(self, sample_id: str, places: list[int]) -> list[tuple[int, PromptRecord]]:
        """All results of one prompt, with their places."""
        sample = self._samples[sample_id]
        verdicts = Verdicts(self._settings.task, sample)
        return [
            (place, self._judge_record(self._records[place], sample, verdicts)) for place in places
        ]

    def _judge_record(
        self, record: PromptRecord, sample: Sample, verdicts: Verdicts
    ) -> PromptRecord:
        texts = [self._final_text(sequence) for sequence in record.sequences]
        scores = [verdicts.judge(text) for text in texts]
        votes = classes_of(self._settings.task, sample, [score.answer for score in scores])
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
            judged_by=judged_by(self._settings.task, sample),
        )

    def _final_text(self, sequence: SequenceRecord) -> str:
        """What was judged; where that is not known, or the end is another, what follows the end."""
        if sequence.final_text is not None and self._is_same_end:
            return sequence.final_text
        if self._end is None:
            return sequence.text
        _, closed, after = sequence.text.partition(self._end)
        return after if closed else sequence.text

    def _solved(self, record: PromptRecord, sequences: Sequence[SequenceRecord]) -> bool | None:
        """As it was where a verifier said so, or a grant went by it."""
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
