"""The folder of a run: `config.json`, `results.jsonl`, `summary.json`.

A result is written and flushed as soon as its prompt has finished, and nothing that an earlier run
left is ever overwritten or mixed in.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jsonlines

from eager_sgl.core import BranchPoint, FinishReason, TokenCounts
from evals.tasks import Message

__all__ = ["PromptRecord", "ResultStore", "SequenceRecord", "StoreError", "prepare_folder"]

CONFIG, RESULTS, SUMMARY = "config.json", "results.jsonl", "summary.json"

to_line = partial(json.dumps, allow_nan=False, ensure_ascii=False)


class StoreError(Exception):
    """The folder of a run cannot be used; the text is one sentence for the user."""


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence of a prompt and the judgement on it.

    Attributes:
        parent: index of the sequence it branched off; None for the first of a tree.
        branch: where it left its parent, with the evidence.
        vote: index of the first sequence of the prompt with an equivalent answer; None without.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    parent: int | None
    branch: BranchPoint | None
    answer: str | None
    correct: bool
    explanation: str
    vote: int | None


@dataclass(frozen=True)
class PromptRecord:
    """One line of `results.jsonl`: all that came out for one prompt by one method.

    Attributes:
        max_sequences: M, the cap.
        threshold: θ; None where the method does not branch.
        seconds: from the prompt's start to its last token.
        counts: what the sequences cost together.
    """

    method: str
    sample_id: str
    level: int | None
    max_sequences: int
    threshold: float | None
    prompt: list[Message]
    prompt_ids: tuple[int, ...]
    sequences: tuple[SequenceRecord, ...]
    counts: TokenCounts
    seconds: float

    @property
    def correct(self) -> list[bool]:
        """One per sequence."""
        return [sequence.correct for sequence in self.sequences]

    @property
    def votes(self) -> list[int | None]:
        """One class per sequence."""
        return [sequence.vote for sequence in self.sequences]

    def to_json(self) -> dict[str, Any]:
        """As it is written, the counts that follow from others included."""
        derived = {"discarded": self.counts.discarded, "prefilled": self.counts.prefilled}
        line = asdict(self)
        return line | {"counts": line["counts"] | derived}


def prepare_folder(folder: Path, *, set_aside: bool) -> Path | None:
    """Make a folder ready for a new run.

    Args:
        set_aside: rename a folder that holds an earlier run, instead of refusing it.

    Returns:
        Where the earlier run is now, if there was one.

    Raises:
        StoreError: the folder holds an earlier run, or cannot be made.
    """
    with _reported(folder):
        if not _holds_results(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return None
        if not set_aside:
            raise StoreError(
                f"{folder} holds the results of an earlier run; give another --output-dir, "
                "or move or remove that folder first"
            )
        aside = _free_name(folder)
        folder.rename(aside)
        folder.mkdir()
        return aside


def _holds_results(folder: Path) -> bool:
    results = folder / RESULTS
    return (folder / SUMMARY).exists() or (results.exists() and results.stat().st_size > 0)


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return aside


class ResultStore:
    """Owns the files of a run; a context manager.

    Args:
        folder: one that `prepare_folder` has made ready.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_results = 0
        with _reported(folder):
            self._lines = jsonlines.open(self.results_path, "w", dumps=to_line, flush=True)

    @property
    def results_path(self) -> Path:
        """The file with a line per finished prompt and method."""
        return self.folder / RESULTS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()

    def append(self, record: PromptRecord) -> None:
        """Write a finished prompt through to the file."""
        with _reported(self.results_path):
            self._lines.write(_finite(record.to_json()))
        self.num_results += 1

    def write_config(self, config: dict[str, Any]) -> None:
        """What the run was asked for."""
        self._write_whole(CONFIG, config)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """What came out; its file exists only where the run is complete."""
        self._write_whole(SUMMARY, summary)

    def _write_whole(self, name: str, content: dict[str, Any]) -> None:
        """The file appears complete or not at all."""
        path = self.folder / name
        partial_path = path.with_name(f".{name}.partial")
        with _reported(path):
            partial_path.write_text(to_line(_finite(content), indent=2) + "\n", encoding="utf-8")
            os.replace(partial_path, path)


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
