"""The folder of a run: `config.json`, `results.jsonl`, `summary.json`; one run at a time.

The same configuration goes on where it stopped; another one is refused, with the difference. Only
the default folder is renamed instead, if the run in it is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from evals.records.failures import FAILURES, FailureLog
from evals.records.files import RefusedError, StoreError, reported, write_whole
from evals.records.identity import weights_digest
from evals.records.judging import find_changes, listed
from evals.records.lines import BAD, describe
from evals.records.plan import Cell
from evals.records.store import ResultStore, read_records
from evals.tasks import Sample, Task

__all__ = [
    "CONFIG",
    "RESULTS",
    "SCHEMA",
    "SUMMARY",
    "Header",
    "RunFolder",
    "is_complete",
    "locked",
    "notices_of",
    "read_config",
]

SCHEMA = 1
CONFIG, RESULTS, SUMMARY, LOCK = "config.json", "results.jsonl", "summary.json", ".lock"
FREE_TO_CHANGE = {"concurrency", "server"}
# A child that a killed run was just starting holds the lock until it becomes another program.
PATIENCE_SECONDS = 2.0
ADVICE = "undo that to continue it, or give another --output-dir"
CHOOSE_PROMPTS = ("task", "dataset", "limit", "levels", "seeds")
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

Header = dict[str, Any]


class RunFolder:
    """Owns the folder of a run as long as it is open; a context manager.

    Args:
        path: of the folder.
        config: the fields of `config.json` under "config" that are known before a server answers.
        cells: of the run's plan.
        task: whose present judges and answers new results will be judged by.
        samples: the prompts of every cell.
        model: of the server that the run starts; None where it uses an existing one.
        set_aside: whether a complete run of another configuration is renamed, not refused.

    Attributes:
        header: what `config.json` says; None before a server was asked.
        store: the results.
        failures: of prompts without a result.
        notices: what the user should be told of what was found there.

    Raises:
        StoreError: the folder is in use, holds another run or one of another version, or cannot be
            read or made.
    """

    def __init__(
        self,
        path: Path,
        config: Header,
        cells: Iterable[Cell],
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
            if difference := _difference(self.header, config, model):
                if not (set_aside and is_complete(path)):
                    details = self._details(config, task, samples)
                    is_of_judging = details or "reasoning_end" in difference
                    advice = f"{ADVICE}; {REGRADE_ADVICE}" if is_of_judging else ADVICE
                    raise StoreError(f"{path} holds a run with {difference}{details}; {advice}")
                self.header, earlier = None, _set_aside(path)
                self.notices.append(f"the run with {difference} is now in {earlier}")
                stack.enter_context(locked(path))
            keys = {(cell, sample.id) for cell in cells for sample in samples}
            self.store = stack.enter_context(ResultStore(path / RESULTS, keys))
            self.failures = stack.enter_context(FailureLog(path / FAILURES))
            self._require_same_judges(task, samples)
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

    def _details(self, config: Header, task: Task, samples: Sequence[Sample]) -> str:
        """Of a difference: the prompts and answers of the same task that are others, if any are."""
        old, results = self.header["config"] if self.header else {}, self.path / RESULTS
        if not results.exists() or any(old.get(name) != config[name] for name in CHOOSE_PROMPTS):
            return ""
        changes = find_changes(read_records(results), task, samples)
        return f" ({listed(changes)})" if changes else ""

    def settle(self, header: Header) -> Header:
        """Write what the run is, or, if that is written already, check that the server agrees.

        Returns:
            What `config.json` says.

        Raises:
            RefusedError: earlier results came from another model, or with other logprobs.
        """
        if self.header is None:
            write_whole(self.path / CONFIG, header)
            self.header = header
        elif changes := _served_changes(self.header, header):
            raise RefusedError(f"{self.path} holds a run with another server: {changes}; {ADVICE}")
        elif changes := _changes(self.header["versions"], header["versions"]):
            self.notices.append(f"warning: earlier results are of other versions: {changes}")
        return self.header


def notices_of(file: ResultStore | FailureLog) -> list[str]:
    """What was found in a file that should not have been there."""
    found = []
    if file.num_torn:
        found.append(f"cut {file.num_torn} bytes of an unfinished line off {file.path}")
    if file.bad:
        found.append(
            f"warning: moved {describe(file.bad, file.path)} to {file.path.name}{BAD}; what is "
            "missing now is tried again"
        )
    return found


def _served_changes(old: Header, new: Header) -> str:
    """How the served models differ: by their weights where both are known, else by their names."""
    name = "model_digest" if old.get("model_digest") and new.get("model_digest") else "model"
    before, after = (
        {name: header[name], "logprobs": header["config"]["logprobs"]} for header in (old, new)
    )
    return _changes(before, after)


def is_complete(folder: Path) -> bool:
    """Whether the summary of a complete run is there."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return bool(summary["partial"] is False)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_config(folder: Path) -> Header:
    """What `config.json` says.

    Raises:
        StoreError: there is none, or it is something else.
    """
    path = folder / CONFIG
    with reported(path):
        content = path.read_text(encoding="utf-8")
    try:
        header: Header = json.loads(content)
        dict(header["config"])
        str(header["model"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not the configuration of a run") from error
    if (schema := header.get("schema", SCHEMA)) != SCHEMA:
        raise StoreError(
            f"{folder} was written by another version, with schema {schema}, and this one has "
            f"{SCHEMA}; use that version, or give another --output-dir"
        )
    return header


def _header(folder: Path) -> Header | None:
    """What `config.json` says; None if no run has begun here."""
    if (folder / CONFIG).exists():
        return read_config(folder)
    results = folder / RESULTS
    if results.exists() and results.stat().st_size > 0:
        raise StoreError(f"{folder} holds results without {CONFIG}; give another --output-dir")
    return None


def _difference(header: Header | None, new: Header, model: str | None) -> str:
    """How a run that is asked for differs from the one that is there; empty if it goes on."""
    if header is None:
        return ""
    old = {name: header["config"].get(name, "absent") for name in new}
    # Written only where there are any, so that a new configuration may lack the name.
    old["control_temperatures"] = header["config"].get("control_temperatures") or "absent"
    if model is not None:
        digest = weights_digest(model)
        if digest is None or digest != header.get("model_digest"):
            old, new = old | {"model": header["model"]}, new | {"model": model}
    changes = _changes(old, new)
    return f"another configuration: {changes}" if changes else ""


def _changes(old: Header, new: Header) -> str:
    """Every field that differs, as `name old → new`."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = [name for name in {**before, **after} if name not in FREE_TO_CHANGE]
    values = ((name, before.get(name, "absent"), after.get(name, "absent")) for name in names)
    return ", ".join(f"{name} {one} → {other}" for name, one, other in values if one != other)


def _flat(content: Header, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field by its path, as text."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ",".join(map(str, value))
        else:
            yield f"{prefix}{name}", "none" if value is None else str(value)


def _set_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    with reported(folder):
        folder.rename(aside)
    return aside


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; the system frees it if that dies."""
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with reported(folder):
            _lock(lock, folder)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, folder: Path) -> None:
    busy = StoreError(f"another run is at work in {folder}; wait for it or give --output-dir")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            raise busy
        time.sleep(0.05)
    # Between the two, the other run may have moved the folder away, our lock in it.
    if not os.path.samestat(os.fstat(lock), (folder / LOCK).stat()):
        raise busy


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
