"""The basis of judgements, and how that of stored ones differs from the present."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from evals.records.files import encoded
from evals.records.identity import judges_digest, library_version
from evals.records.record import JudgedBy, PromptRecord
from evals.tasks import Sample, Task

__all__ = ["find_changes", "judged_by", "listed"]

MAX_NAMED = 5
MAX_CHARACTERS = 40


def judged_by(task: Task, sample: Sample) -> JudgedBy:
    """The basis of a judgement on a sample at present."""
    fields = _fields(sample.reference)
    libraries = {name: library_version(name) for name in task.libraries(sample)}
    return JudgedBy(
        reference={name: _shown(value) for name, value in fields.items()},
        judges={"judges": judges_digest()} | libraries,
    )


def _fields(reference: Any) -> Mapping[str, object]:
    if reference is None:
        return {}
    if is_dataclass(reference) and not isinstance(reference, type):
        return asdict(reference)
    if hasattr(reference, "_asdict"):
        return dict(reference._asdict())
    return {"answer": reference}


def _shown(value: object) -> str:
    """The value as text; the digest of a long one."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"sha256:{hashlib.sha256(encoded(text)).hexdigest()[:16]}"


def find_changes(
    records: Iterable[PromptRecord], task: Task, samples: Sequence[Sample]
) -> list[str]:
    """How the prompts of records, and what they were judged by, differ from the present."""
    present = {sample.id: (sample, judged_by(task, sample)) for sample in samples}
    changes: dict[str, None] = {}
    for record in records:
        if record.sample_id in present:
            changes |= dict.fromkeys(_changes(record, *present[record.sample_id]))
        else:
            changes[f"{record.sample_id!r} is no longer among the prompts"] = None
    return list(changes)


def _changes(record: PromptRecord, sample: Sample, now: JudgedBy) -> Iterator[str]:
    name = repr(record.sample_id)
    if record.prompt != sample.prompt:
        yield f"the prompt of {name} has changed"
    if record.level != sample.level:
        yield f"level of {name} {_level(record.level)} → {_level(sample.level)}"
    if record.judged_by is not None:
        for field, change in _differing(record.judged_by.reference, now.reference):
            yield f"{field} of {name} {change}"
        for field, change in _differing(record.judged_by.judges, now.judges):
            yield f"{field} {change}"


def _level(level: int | None) -> str:
    return "none" if level is None else str(level)


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in {**old, **new}:
        before, after = old.get(name, "absent"), new.get(name, "absent")
        if before != after:
            yield name, f"{before} → {after}"


def listed(changes: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(changes) - MAX_NAMED
    return ", ".join(changes[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
