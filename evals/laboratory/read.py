"""The recorded samples in the folders of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from evals.analysis.groups import group_by
from evals.laboratory.samples import Prompts, Samples, TaskName, samples_of
from evals.records.files import StoreError
from evals.records.header import read_header
from evals.records.lines import describe
from evals.records.plan import PARALLEL
from evals.records.record import PromptRecord
from evals.records.results import RESULTS, read_results

__all__ = ["read_tasks"]


def read_tasks(folders: Sequence[Path]) -> dict[TaskName, Prompts]:
    """The prompts of each task with a sample of Full Parallel at every temperature of the task.

    Samples of the same prompt in several runs, or of several seeds, are put together.

    Raises:
        StoreError: a folder holds no such samples, or they cannot be read.
    """
    runs = [(_name_of(folder), _records(folder)) for folder in folders]
    _require_same_sampling(folders)
    several = len({name.model for name, _ in runs}) > 1
    tasks: dict[TaskName, list[PromptRecord]] = {}
    for name, records in runs:
        tasks.setdefault(name if several else TaskName(name.task), []).extend(records)
    return {task: _by_temperature(task, records) for task, records in tasks.items()}


def _by_temperature(task: TaskName, records: Sequence[PromptRecord]) -> Prompts:
    groups = {
        temperature: group_by(group, lambda record: record.sample_id)
        for temperature, group in group_by(records, lambda record: record.temperature).items()
    }
    names = set.intersection(*(set(prompts) for prompts in groups.values()))
    if not names:
        raise StoreError(f"no prompt of {task} has results at every temperature")
    return {
        temperature: [_samples(name, prompts[name]) for name in sorted(names)]
        for temperature, prompts in groups.items()
    }


def _require_same_sampling(folders: Sequence[Path]) -> None:
    known = {folder: read_header(folder).config.eager.sampling for folder in folders}
    first = folders[0]
    for folder, sampling in known.items():
        if sampling != known[first]:
            raise StoreError(
                f"{folder} sampled by {sampling}, {first} by {known[first]}; samples of one "
                "distribution are put together, give the runs one by one"
            )


def _name_of(folder: Path) -> TaskName:
    header = read_header(folder)
    return TaskName(header.config.task, header.model_digest or header.model)


def _records(folder: Path) -> list[PromptRecord]:
    records, bad = read_results(folder / RESULTS, read_header(folder).config.plan.cells)
    if bad:
        print(f"warning: left out {describe(bad, folder / RESULTS)}", file=sys.stderr)
    parallel = [record for record in records if record.method == PARALLEL]
    if not parallel:
        raise StoreError(
            f"{folder} has no results of {PARALLEL}, whose independent samples rules are played "
            "on; run it with --methods parallel --record"
        )
    return parallel


def _samples(name: str, records: Sequence[PromptRecord]) -> Samples:
    if len({record.prompt_ids for record in records}) > 1:
        raise StoreError(f"{name} is another prompt in one of the runs; give them one by one")
    if len({record.seed for record in records}) < len(records):
        raise StoreError(f"two of the runs have {name} with the same seed; give one of them")
    try:
        return samples_of(records)
    except ValueError as error:
        raise StoreError(f"the values of {name} cannot be read: {error}") from error
