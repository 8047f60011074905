"""The folder of a run: `config.json`, `results.jsonl`, `failures.jsonl`, `summary.json`.

A run of the same configuration continues in it; another one is refused, with the differences. Only
the default folder is renamed instead, if the run in it is complete. A folder of schema 1 becomes
one of the present schema before anything is added to it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from evals.records.failures import FAILURES, FailureLog
from evals.records.files import RefusedError, StoreError, reported
from evals.records.header import (
    CONFIG,
    RunHeader,
    StoredConfig,
    differences,
    read_header,
    write_header,
)
from evals.records.identity import weights_digest
from evals.records.judging import find_changes, listed
from evals.records.lines import BAD, describe
from evals.records.lock import locked
from evals.records.plan import BEST_FIRST, SWOR, TRIE_PARALLEL
from evals.records.results import RESULTS, ResultStore, read_records
from evals.records.schema import SCHEMA
from evals.tasks import Sample, Task

__all__ = ["SUMMARY", "RunFolder", "is_complete", "notices_of"]

SUMMARY = "summary.json"
ADVICE = "undo that to continue it, or give another --output-dir"
REGRADE_ADVICE = (
    "--regrade judges it by the present answers, graders, levels and end of reasoning, and needs "
    "no server"
)
JUDGED_ADVICE = (
    "judge them again with --regrade, which needs no server, give what they were judged by, or "
    "another --output-dir"
)
UNIDENTIFIED = (
    "warning: {number} results are of an earlier version, which did not write what they were "
    "judged by; if answers, graders or their code have changed since, judge them with --regrade"
)


class RunFolder:
    """Owns the folder of a run as long as it is open; a context manager.

    Args:
        path: of the folder.
        config: of the run.
        task: whose present judges and answers new results will be judged by.
        samples: the prompts of every cell.
        model: of the server that the run starts; None where it uses an existing one.
        set_aside: whether a complete run of another configuration is renamed, not refused.

    Attributes:
        header: the content of `config.json`; None before a server has answered.
        store: the results.
        failures: of prompts without a result.
        notices: sentences for the user about the folder.

    Raises:
        StoreError: the folder is in use, holds another run or one of another version, or cannot be
            read or created.
    """

    def __init__(
        self,
        path: Path,
        config: StoredConfig,
        task: Task,
        samples: Sequence[Sample],
        *,
        model: str | None,
        set_aside: bool = False,
    ) -> None:
        self.path = path
        self.notices: list[str] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(path))
            self.header = _header(path)
            if self.header and (difference := _difference(self.header, config, model)):
                if not (set_aside and is_complete(path)):
                    details = _details(path, self.header.config, config, task, samples)
                    is_of_judging = details or "reasoning_end" in difference
                    advice = f"{ADVICE}; {REGRADE_ADVICE}" if is_of_judging else ADVICE
                    raise StoreError(f"{path} holds a run with {difference}{details}; {advice}")
                self.header, earlier = None, _set_aside(path)
                self.notices.append(f"the run with {difference} is now in {earlier}")
                stack.enter_context(locked(path))
            keys = {(cell, sample.id) for cell in config.plan.cells for sample in samples}
            self.store = stack.enter_context(ResultStore(path / RESULTS, keys))
            self.failures = stack.enter_context(FailureLog(path / FAILURES))
            self._require_same_judges(task, samples)
            self._upgrade()
            self._open = stack.pop_all()
        self.notices += notices_of(self.store) + notices_of(self.failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def _require_same_judges(self, task: Task, samples: Sequence[Sample]) -> None:
        """New results may only join those that were judged as they will be."""
        records = self.store.records.values()
        if changes := find_changes(records, task, samples):
            raise StoreError(
                f"{self.path} holds results that were judged by something else: "
                f"{listed(changes)}; {JUDGED_ADVICE}"
            )
        if number := sum(record.judged_by is None for record in records):
            self.notices.append(UNIDENTIFIED.format(number=number))

    def _upgrade(self) -> None:
        """Rewrite files of schema 1, the header last: a process that dies here begins again."""
        if self.header is None or self.header.schema == SCHEMA:
            return
        self.store.rewrite(list(self.store.records.values()))
        with reported(self.path / SUMMARY):  # it is renewed when the run is complete
            (self.path / SUMMARY).unlink(missing_ok=True)
        self.header = replace(self.header, schema=SCHEMA)
        write_header(self.path, self.header)

    def settle(self, header: RunHeader) -> RunHeader:
        """Write the header, or, if there is one, check that the server agrees with it.

        Returns:
            The content of `config.json`.

        Raises:
            RefusedError: earlier results came from another model, or with other logprobs.
        """
        if self.header is None:
            write_header(self.path, header)
            self.header = header
        elif changes := _served_changes(self.header, header):
            raise RefusedError(f"{self.path} holds a run with another server: {changes}; {ADVICE}")
        elif changes := differences(self.header.versions, header.versions):
            self.notices.append(f"warning: earlier results are of other versions: {changes}")
        return self.header


def notices_of(file: ResultStore | FailureLog) -> list[str]:
    """Sentences about torn and bad lines of a file."""
    notices = []
    if file.num_torn:
        notices.append(f"cut {file.num_torn} bytes of an unfinished line off {file.path}")
    if file.bad:
        notices.append(
            f"warning: moved {describe(file.bad, file.path)} to {file.path.name}{BAD}; what is "
            "missing now is tried again"
        )
    return notices


def _served_changes(old: RunHeader, new: RunHeader) -> str:
    """How the served models differ: by their weights where both are known, else by their names."""
    name = "model_digest" if old.model_digest and new.model_digest else "model"
    before, after = (
        {name: getattr(header, name), "logprobs": header.logprobs} for header in (old, new)
    )
    return differences(before, after)


def is_complete(folder: Path) -> bool:
    """Whether the folder has the summary of a complete run."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return bool(summary["partial"] is False)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _header(folder: Path) -> RunHeader | None:
    """The content of `config.json`; None if no run has begun here."""
    if (folder / CONFIG).exists():
        return read_header(folder)
    results = folder / RESULTS
    if results.exists() and results.stat().st_size > 0:
        raise StoreError(f"{folder} holds results without {CONFIG}; give another --output-dir")
    return None


def _difference(header: RunHeader, config: StoredConfig, model: str | None) -> str:
    """How a run differs from that of the folder; empty if it continues it."""
    changes = [differences(_without_unused(header.config), _without_unused(config))]
    if model is not None:
        digest = weights_digest(model)
        if digest is None or digest != header.model_digest:
            changes.append(differences({"model": header.model}, {"model": model}))
    text = ", ".join(filter(None, changes))
    return f"another configuration: {text}" if text else ""


def _without_unused(config: StoredConfig) -> StoredConfig:
    """With a width of searches only where there are some: its default has changed."""
    if {BEST_FIRST, SWOR, TRIE_PARALLEL}.intersection(config.plan.methods):
        return config
    return replace(config, search=replace(config.search, width=0))


def _details(
    folder: Path, old: StoredConfig, new: StoredConfig, task: Task, samples: Sequence[Sample]
) -> str:
    """Of a difference: the prompts and answers of the same task that have changed, if any."""
    results = folder / RESULTS
    if not results.exists() or old.chooses_prompts != new.chooses_prompts:
        return ""
    changes = find_changes(read_records(results), task, samples)
    return f" ({listed(changes)})" if changes else ""


def _set_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    with reported(folder):
        folder.rename(aside)
    return aside
