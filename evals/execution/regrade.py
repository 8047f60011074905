"""Judges the sequences of a run again: `--regrade`. No server is needed, and nothing is generated.

Answers, votes and levels become those that the present file, graders and libraries give. What
earlier judgements had decided while sequences were generated stays as it was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eager_sgl.budget.reallocation import RULES
from evals.config import CONSENSUS, VERIFIER, VOTE_UNCERTAINTY, Settings, digest_prompts
from evals.execution.progress import View
from evals.execution.rejudge import Rejudge, granted_by_labels, is_solved_at_first
from evals.records.files import StoreError, reported, write_whole
from evals.records.folder import CONFIG, RESULTS, Header, locked, notices_of, read_config
from evals.records.judging import listed
from evals.records.plan import SEARCHES, Plan
from evals.records.store import PromptRecord, ResultStore, SequenceRecord
from evals.report.page import REPORT
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
        for notice in notices_of(store):
            view.say(notice)
        header, old = read_config(folder), list(store.records.values())
        samples = _samples_of(old, settings)
        _require_end(old, header, settings)
        view.say(f"judging {sum(len(record.sequences) for record in old):,} sequences again")
        new = Rejudge(settings, header, old, samples).judge_all()
        with reported(folder / REPORT):  # gone, it says that the summary is to be renewed
            (folder / REPORT).unlink(missing_ok=True)
        store.rewrite(new)
        header = _renewed(header, settings, plan, old)
        write_whole(folder / CONFIG, header)
    for sentence in (*_summary(old, new), *_decided(header, old, new), *_unknown(old, settings)):
        view.say(sentence)
    return header, new


def _samples_of(records: Sequence[PromptRecord], settings: Settings) -> dict[str, Sample]:
    """The samples of the results, as they are now; sequences are of the prompt they began with."""
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


def _require_end(records: Sequence[PromptRecord], header: Header, settings: Settings) -> None:
    """Another end of reasoning must be in a text: no other trace of it is stored."""
    end = settings.experiment.base.reasoning_end
    if end is None or end == header["config"]["eager"]["reasoning_end"]:
        return
    if not any(end in sequence.text for record in records for sequence in record.sequences):
        raise StoreError(
            f"--reasoning-end is {end!r}, which is in none of the texts in {settings.output_dir} "
            "(special tokens leave none there)"
        )


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
        "eager": config["eager"] | {"reasoning_end": settings.experiment.base.reasoning_end},
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
    granted = granted_by_labels(new)
    regretted = {
        record.sample_id
        for record in new
        if record.cell in granted and record.solved != is_solved_at_first(record.sequences)
    }
    is_by_labels = header["config"].get("verifier") is None
    found = []
    if regretted and is_by_labels:
        found.append(GRANTED.format(number=len(regretted)))
    search = header["config"].get("search", {})
    stop, is_shared = search.get("stop"), search.get("token_budget") is not None
    by = [f"--stop {stop}"] if stop == CONSENSUS or (stop == VERIFIER and is_by_labels) else []
    by += (
        [f"--bids {VOTE_UNCERTAINTY}"]
        if is_shared and search.get("bids") == VOTE_UNCERTAINTY
        else []
    )
    before, after = ([r for r in records if r.method in SEARCHES] for records in (old, new))
    if by and any(_judgement(one) != _judgement(other) for one, other in _pairs(before, after)):
        found.append(ENDED.format(by=", ".join(by)))
    return found


def _unknown(records: Iterable[PromptRecord], settings: Settings) -> list[str]:
    """That ends of reasoning may have been missed where a marker leaves no text."""
    end = settings.experiment.base.reasoning_end
    texts = [s.text for record in records for s in record.sequences if s.final_text is None]
    if end is None or not texts or any(end in text for text in texts):
        return []
    return [UNKNOWN_ENDS.format(number=f"{len(texts):,}", end=end)]
