"""`--regrade`: judges the sequences of a run again, without a server.

Answers, votes and levels become those of the present file, graders and libraries. What earlier
judgements decided while sequences were generated does not change: grants, and the ends of searches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from eager_sgl import RULES
from evals.config import CONSENSUS, VERIFIER, VOTE_UNCERTAINTY, digest_prompts
from evals.execution.progress.view import View
from evals.execution.rejudge import Rejudge, granted_by_labels, is_solved_at_first
from evals.records.files import StoreError, reported
from evals.records.folder import notices_of
from evals.records.header import RunHeader, StoredConfig, read_header, write_header
from evals.records.judging import listed
from evals.records.lock import locked
from evals.records.plan import SEARCHES
from evals.records.record import PromptRecord, SequenceRecord
from evals.records.results import RESULTS, ResultStore
from evals.report.page import REPORT
from evals.tasks import Sample, Task

__all__ = ["regrade"]

UNKNOWN_ENDS = (
    "warning: {number} sequences are of an earlier version, which did not write where their "
    "reasoning ends, and {end!r} is in none of their texts: of these the whole text was judged"
)
GRANTED = (
    "{number} prompts are solved after their first stage where they were not, or the other way "
    "round: their extra sequences remain those that the earlier judgements granted"
)
ENDED = "searches remain as long as the earlier judgements made them ({by})"


def regrade(
    folder: Path, task: Task, reasoning_end: str | None, concurrency: int, view: View
) -> tuple[RunHeader, list[PromptRecord]]:
    """Replace the judgements in a run's folder; a crash before the end leaves the old ones.

    Args:
        folder: of the run.
        task: whose present judges and answers are used.
        reasoning_end: text that closes the reasoning; None where nothing does.
        concurrency: prompts at a time.
        view: for notices and what changed.

    Returns:
        The content of `config.json` from now on, and the results.

    Raises:
        StoreError: the folder has no results that the task can judge, or cannot be written.
    """
    with locked(folder):
        header = read_header(folder)
        with ResultStore(folder / RESULTS, cells=header.config.plan.cells) as store:
            for notice in notices_of(store):
                view.say(notice)
            old = list(store.records.values())
            samples = _samples_of(old, task, folder)
            _require_end(old, header.config, reasoning_end, folder)
            view.say(f"judging {sum(len(record.sequences) for record in old):,} sequences again")
            judges = Rejudge(task, samples, reasoning_end, header.config, old)
            new = judges.judge_all(concurrency)
            with reported(folder / REPORT):  # without it, the summary counts as outdated
                (folder / REPORT).unlink(missing_ok=True)
            store.rewrite(new)
        config = _renewed(header.config, task, reasoning_end, old)
        write_header(folder, replace(header, config=config))
    unknown = _unknown(old, reasoning_end)
    for sentence in (*_summary(old, new), *_decided(config, old, new), *unknown):
        view.say(sentence)
    return replace(header, config=config), new


def _samples_of(records: Sequence[PromptRecord], task: Task, folder: Path) -> dict[str, Sample]:
    """The task's samples by id; the sequences of a result belong to the prompt they began with."""
    if not records:
        raise StoreError(f"{folder} holds no results that could be judged again")
    samples = {sample.id: sample for sample in task.load(None, None, 0)}
    stale = dict.fromkeys(
        f"{record.sample_id!r} " + ("is gone" if sample is None else "has another prompt")
        for record in records
        if (sample := samples.get(record.sample_id)) is None or sample.prompt != record.prompt
    )
    if stale:
        raise StoreError(
            f"{folder} holds sequences of prompts that {task.name} does not have: "
            f"{listed(list(stale))}; give the prompts that they were generated from"
        )
    return samples


def _require_end(
    records: Sequence[PromptRecord], config: StoredConfig, end: str | None, folder: Path
) -> None:
    """Another end of reasoning must be in a text: no other trace of it is stored."""
    if end is None or end == config.eager.reasoning_end:
        return
    if not any(end in sequence.text for record in records for sequence in record.sequences):
        raise StoreError(
            f"--reasoning-end is {end!r}, which is in none of the texts in {folder} (special "
            "tokens leave none there)"
        )


def _renewed(
    config: StoredConfig, task: Task, reasoning_end: str | None, records: Sequence[PromptRecord]
) -> StoredConfig:
    """The configuration with what was judged by now, so that the same command continues the run."""
    plan, digest, chosen = config.plan, config.prompts_digest, _chosen(config, task)
    # Prompts that still wait for a grant must not change places with others.
    may_move = not plan.missing(r.cell for r in records) or not set(plan.methods) & set(RULES)
    if may_move and {record.sample_id for record in records} <= {sample.id for sample in chosen}:
        digest = digest_prompts(chosen)
    return replace(
        config,
        plan=replace(plan, can_vote=task.can_vote),
        task=task.name,
        dataset=task.to_json(),
        has_labels=task.has_labels,
        prompts_digest=digest,
        eager=replace(config.eager, reasoning_end=reasoning_end),
    )


def _chosen(config: StoredConfig, task: Task) -> list[Sample]:
    """The prompts of the run by the present levels; none where one of its levels is gone."""
    try:
        return task.load(config.limit, config.levels, config.plan.seeds[0])
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
    """Sentences that count the judgements that changed."""
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


def _decided(
    config: StoredConfig, old: Sequence[PromptRecord], new: Sequence[PromptRecord]
) -> list[str]:
    """Sentences on what was generated by judgements that have changed."""
    granted = granted_by_labels(new)
    regretted = {
        record.sample_id
        for record in new
        if record.cell in granted and record.solved != is_solved_at_first(record.sequences)
    }
    sentences = []
    if regretted and config.verifier is None:
        sentences.append(GRANTED.format(number=len(regretted)))
    before, after = ([r for r in records if r.method in SEARCHES] for records in (old, new))
    by = _judging_options(config)
    if by and any(_judgement(b) != _judgement(a) for b, a in _pairs(before, after)):
        sentences.append(ENDED.format(by=", ".join(by)))
    return sentences


def _judging_options(config: StoredConfig) -> list[str]:
    """The options by which judgements ended the searches."""
    search, is_by_labels = config.search, config.verifier is None
    is_stopped = search.stop == CONSENSUS or (search.stop == VERIFIER and is_by_labels)
    return [
        *([f"--stop {search.stop}"] if is_stopped else []),
        *([f"--bids {search.bids}"] if search.bids == VOTE_UNCERTAINTY else []),
    ]


def _unknown(records: Iterable[PromptRecord], end: str | None) -> list[str]:
    """A warning that ends of reasoning may have been missed where a marker leaves no text."""
    texts = [s.text for record in records for s in record.sequences if s.final_text is None]
    if end is None or not texts or any(end in text for text in texts):
        return []
    return [UNKNOWN_ENDS.format(number=f"{len(texts):,}", end=end)]
