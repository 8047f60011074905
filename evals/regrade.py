"""Judges the sequences of a run again: `--regrade`. No server is needed, and nothing is generated.

Answers, votes and levels become those that the present file, graders and libraries give. What
earlier judgements had decided while sequences were generated stays as it was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from eager_sgl.reallocation import RULES
from evals.bidding import DOUBT
from evals.files import StoreError, reported, write_whole
from evals.folder import CONFIG, RESULTS, Header, locked, read_config
from evals.html_report import REPORT
from evals.judged import Verdicts, classes_of
from evals.judging import judged_by, listed
from evals.plan import SEARCHES, STAGE_ONE, Cell, Plan
from evals.progress import View
from evals.settings import Settings, digest_prompts
from evals.stopping import CONSENSUS, VERIFIER
from evals.store import PromptRecord, ResultStore, SequenceRecord
from evals.tasks import Sample, Task

__all__ = ["regrade"]

UNKNOWN_ENDS = (
    "warning: {number} sequences are of an earlier version, which did not write where their "
    "reasoning ends, and {end!r} is in none of their texts: of these the whole text was judged"
)
GRANTED = (
    "{number} prompts are solved after their first stage where they were not, or the other way "
    "round: extra sequences stay as they were given by the earlier judgements"
)
ENDED = "searches stay as long as they were by the earlier judgements ({by})"


def regrade(settings: Settings, plan: Plan, view: View) -> tuple[Header, list[PromptRecord]]:
    """Put the judgements of today in the place of those that a run's folder holds.

    Args:
        settings: whose task and end of reasoning are judged by.
        plan: of the run.

    Returns:
        What `config.json` says now, and the results. A crash before the end leaves the old ones.

    Raises:
        StoreError: the folder holds nothing that could be judged so, or cannot be written.
    """
    folder = settings.output_dir
    with locked(folder), ResultStore(folder / RESULTS) as store:
        header, old = read_config(folder), list(store.records.values())
        samples = _samples_of(old, settings)
        view.say(f"judging {sum(len(record.sequences) for record in old):,} sequences again")
        new = _Judge(settings, header, old, samples).judge_all()
        with reported(folder / REPORT):  # gone, it says that the summary is to be renewed
            (folder / REPORT).unlink(missing_ok=True)
        store.rewrite(new)
        header = _renewed(header, settings, plan, old)
        write_whole(folder / CONFIG, header)
    for sentence in (*_summary(old, new), *_decided(header, old, new), *_unknown(old, settings)):
        view.say(sentence)
    return header, new


def _samples_of(records: Sequence[PromptRecord], settings: Settings) -> dict[str, Sample]:
    """The samples of the results, as they are now; another prompt has other sequences."""
    if not records:
        raise StoreError(f"{settings.output_dir} holds no results that could be judged again")
    samples = {sample.id: sample for sample in settings.task.load(None, None, 0)}
    stale = dict.fromkeys(
        f"{record.sample_id!r} " + ("is gone" if sample is None else "has another prompt")
        for record in records
        if (sample := samples.get(record.sample_id)) is None or sample.prompt != record.prompt
    )
    if stale:
        raise StoreError(
            f"{settings.output_dir} holds sequences of prompts that {settings.task.name} does not "
            f"have: {listed(list(stale))}; give the prompts that they were generated from"
        )
    return samples


class _Judge:
    """Judges the results of a folder, prompt by prompt, each text once."""

    def __init__(
        self,
        settings: Settings,
        header: Header,
        records: Sequence[PromptRecord],
        samples: dict[str, Sample],
    ) -> None:
        self._settings = settings
        self._records = records
        self._samples = samples
        self._end = settings.base.reasoning_end
        self._is_same_end = self._end == header["config"]["eager"]["reasoning_end"]
        self._is_by_labels = header["config"].get("verifier") is None
        self._granted = _granted(records)

    def judge_all(self) -> list[PromptRecord]:
        """The records with new judgements, in their order."""
        places: dict[str, list[int]] = {}
        for place, record in enumerate(self._records):
            places.setdefault(record.sample_id, []).append(place)
        pool = ThreadPoolExecutor(self._settings.concurrency)
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
        return _is_solved(sequences)


def _is_solved(sequences: Iterable[SequenceRecord]) -> bool:
    return any(sequence.correct for sequence in sequences if sequence.stage == 1)


def _stage_one(cell: Cell) -> Cell:
    return cell._replace(method=STAGE_ONE, stage_two=None)


def _granted(records: Iterable[PromptRecord]) -> set[Cell]:
    """First stages whose judgements have given extra sequences to some prompts."""
    return {
        _stage_one(record.cell)
        for record in records
        if record.stage_two is not None and RULES[record.method].needs_labels
    }


def _renewed(
    header: Header, settings: Settings, plan: Plan, records: Sequence[PromptRecord]
) -> Header:
    """What `config.json` says of judging, so that the same command goes on from here."""
    task, config = settings.task, header["config"]
    chosen = _chosen(config, task)
    # Whose grants are still to come must not change places with others.
    may_move = not plan.missing(r.cell for r in records) or not set(plan.methods) & set(RULES)
    if may_move and {record.sample_id for record in records} <= {sample.id for sample in chosen}:
        config = config | {"prompts": digest_prompts(chosen)}
    judging = {
        "task": task.name,
        "dataset": task.to_json(),
        "can_vote": task.can_vote,
        "has_labels": task.has_labels,
        "eager": config["eager"] | {"reasoning_end": settings.base.reasoning_end},
    }
    return header | {"task": task.name, "config": config | judging}


def _chosen(config: dict[str, Any], task: Task) -> list[Sample]:
    """The prompts of the run by the present levels; none where one of its levels is gone."""
    levels = config["levels"]
    try:
        return task.load(config["limit"], levels and tuple(levels), config["seeds"][0])
    except ValueError:
        return []


def _pairs(
    old: Iterable[PromptRecord], new: Iterable[PromptRecord]
) -> list[tuple[SequenceRecord, SequenceRecord]]:
    return [
        pair
        for before, after in zip(old, new, strict=True)
        for pair in zip(before.sequences, after.sequences, strict=True)
    ]


def _summary(old: Sequence[PromptRecord], new: Sequence[PromptRecord]) -> list[str]:
    """How many judgements are others than they were."""
    pairs = _pairs(old, new)
    right = sum(after.correct and not before.correct for before, after in pairs)
    unjudged = sum(_is_unjudged(after) and not _is_unjudged(before) for before, after in pairs)
    wrong = sum(
        before.correct and not after.correct and not _is_unjudged(after) for before, after in pairs
    )
    changed = sum(_judgement(before) != _judgement(after) for before, after in pairs)
    levels = len({a.sample_id for b, a in zip(old, new, strict=True) if b.level != a.level})
    return [
        f"judged {len(pairs):,} sequences of {len(new):,} results again: {changed:,} judgements "
        f"changed ({right:,} now right, {wrong:,} now wrong, {unjudged:,} no longer judged, "
        f"{changed - right - wrong - unjudged:,} otherwise)",
        *([f"levels of {levels:,} prompts changed"] if levels else []),
    ]


def _is_unjudged(sequence: SequenceRecord) -> bool:
    return sequence.status != "judged"


def _judgement(sequence: SequenceRecord) -> tuple[object, ...]:
    return sequence.correct, sequence.status, sequence.answer, sequence.vote


def _decided(header: Header, old: Sequence[PromptRecord], new: Sequence[PromptRecord]) -> list[str]:
    """What was generated by judgements that are others now."""
    granted = _granted(new)
    regretted = {
        record.sample_id
        for record in new
        if record.cell in granted and record.solved != _is_solved(record.sequences)
    }
    is_by_labels = header["config"].get("verifier") is None
    found = []
    if regretted and is_by_labels:
        found.append(GRANTED.format(number=len(regretted)))
    search = header["config"].get("search", {})
    stop, is_shared = search.get("stop"), search.get("token_budget") is not None
    by = [f"--stop {stop}"] if stop == CONSENSUS or (stop == VERIFIER and is_by_labels) else []
    by += [f"--bids {DOUBT}"] if is_shared and search.get("bids") == DOUBT else []
    before, after = ([r for r in records if r.method in SEARCHES] for records in (old, new))
    if by and any(_judgement(one) != _judgement(other) for one, other in _pairs(before, after)):
        found.append(ENDED.format(by=", ".join(by)))
    return found


def _unknown(records: Iterable[PromptRecord], settings: Settings) -> list[str]:
    """That ends of reasoning may have been missed where a marker leaves no text."""
    end = settings.base.reasoning_end
    texts = [s.text for record in records for s in record.sequences if s.final_text is None]
    if end is None or not texts or any(end in text for text in texts):
        return []
    return [UNKNOWN_ENDS.format(number=f"{len(texts):,}", end=end)]
