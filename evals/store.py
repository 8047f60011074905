"""What a run brings, prompt by prompt, and the file that nothing is lost from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from eager_sgl.core import (
    BranchPoint,
    FinishReason,
    PromptResult,
    RefusedBranch,
    Sequence,
    TokenCounts,
)
from eager_sgl.running_threshold import Shown
from evals.files import StoreError, encoded, replace_file, reported, to_line
from evals.grading.score import Status
from evals.plan import Cell
from evals.tasks import Message

__all__ = [
    "JudgedBy",
    "PromptRecord",
    "ResultStore",
    "SequenceRecord",
    "StageTwo",
    "read_records",
]

Key = tuple[Cell, str]
"""What there is at most one result for: a cell and a sample's id."""


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence of a prompt and the judgement on it.

    Attributes:
        parent: index of the sequence it branched off; None for the first of a tree.
        branch: where it left its parent, with the evidence.
        vote: index of the first sequence of the prompt with an equivalent answer; None without.
        stage: 1, or 2 for an extra sequence.
        status: whether the judge came to a judgement; see `evals.grading.score`.
        raw_logprob: of the whole sequence under the model itself; None where it is not known.
        final_text: the part of the text that was judged; None in lines of earlier versions.
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
    stage: int = 1
    status: Status = "judged"
    raw_logprob: float | None = None
    final_text: str | None = None

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Self:
        """What `asdict` and JSON made of it, read back."""
        branch = line["branch"] and _branch(line["branch"])
        return cls(**line | {"token_ids": tuple(line["token_ids"]), "branch": branch})


@dataclass(frozen=True)
class JudgedBy:
    """What the judgements on a prompt rest on, besides the sequences and the level.

    Attributes:
        reference: the fields of the reference answer, long ones by their digest.
        judges: the versions of what judges.
    """

    reference: Mapping[str, str]
    judges: Mapping[str, str]


@dataclass(frozen=True)
class StageTwo:
    """What reallocation gave to a prompt.

    Attributes:
        how: "restart" or "resume".
        eligible: whether the rule considered it.
        extra_granted: sequences beyond those of its first stage that it was allowed.
        extra_used: those that it opened.
        threshold: θ' of the first try; the stage one's where nothing was granted.
        generated: tokens that the server decoded for the extra sequences.
    """

    how: str
    eligible: bool
    extra_granted: int
    extra_used: int
    threshold: float
    generated: int = 0


@dataclass(frozen=True, kw_only=True)
class PromptRecord:
    """One line of `results.jsonl`: all that came out for one prompt by one method.

    Attributes:
        max_sequences: M, the cap of stage one.
        threshold: θ of stage one; None where the method does not branch, and at a running θ.
        temperature: τ of sampling.
        seed: which repeat it is.
        sequences: those of stage one, then the extra ones.
        counts: what the sequences cost together, stage one's included.
        seconds: from the prompt's start to its last token, both stages added up.
        peak_entropy: mean over its stage-one sequences; None where no entropy was taken.
        solved: whether the verifier, or without one the labels, found a correct sequence in stage
            one; None without either.
        stage_two: None for a method of one stage.
        refused: what `--stage-two resume` may open, best first.
        inexact_steps, shown: see `eager_sgl.core.PromptResult`.
        session: of the run that wrote the line; 0 for the first, 1 after an interruption.
        elapsed: seconds that this session had worked on the line's group of cells.
        judged_by: what the judgements rest on; None in lines of earlier versions.
    """

    method: str
    sample_id: str
    level: int | None
    max_sequences: int
    threshold: float | None
    temperature: float
    seed: int
    prompt: list[Message]
    prompt_ids: tuple[int, ...]
    sequences: tuple[SequenceRecord, ...]
    counts: TokenCounts
    seconds: float
    peak_entropy: float | None = None
    solved: bool | None = None
    stage_two: StageTwo | None = None
    refused: tuple[RefusedBranch, ...] = ()
    inexact_steps: int | None = None
    shown: Shown | None = None
    session: int = 0
    elapsed: float = 0.0
    judged_by: JudgedBy | None = None

    @property
    def cell(self) -> Cell:
        """Where in a sweep it belongs; with `sample_id` the key of the line."""
        return Cell(
            self.method,
            self.max_sequences,
            self.threshold,
            self.temperature,
            self.seed,
            self.stage_two.how if self.stage_two else None,
        )

    @property
    def correct(self) -> list[bool]:
        """One per sequence."""
        return [sequence.correct for sequence in self.sequences]

    @property
    def votes(self) -> list[int | None]:
        """One class per sequence."""
        return [sequence.vote for sequence in self.sequences]

    def to_result(self) -> PromptResult:
        """The tree that the line tells of, as far as a second stage needs it."""
        sequences = tuple(
            Sequence(s.token_ids, (), s.finish_reason, s.parent, s.branch) for s in self.sequences
        )
        return PromptResult(
            self.prompt_ids, sequences, self.counts, self.max_sequences, self.refused
        )

    def to_json(self) -> dict[str, Any]:
        """As it is written, the counts that follow from others included."""
        derived = {"discarded": self.counts.discarded, "prefilled": self.counts.prefilled}
        line = asdict(self)
        return line | {"counts": line["counts"] | derived}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Self:
        """A line read back.

        Raises:
            KeyError, TypeError: the line is not of a record.
        """
        counts = {field.name: line["counts"][field.name] for field in fields(TokenCounts)}
        refused = ((r["sequence"], _branch(r["point"])) for r in line["refused"])
        return cls(
            **line
            | {
                "prompt_ids": tuple(line["prompt_ids"]),
                "sequences": tuple(map(SequenceRecord.from_json, line["sequences"])),
                "counts": TokenCounts(**counts),
                "shown": _shown(line.get("shown")),
                "stage_two": line["stage_two"] and StageTwo(**line["stage_two"]),
                "refused": tuple(RefusedBranch(*one) for one in refused),
                "judged_by": line.get("judged_by") and JudgedBy(**line["judged_by"]),
            }
        )


def _shown(line: dict[str, Any] | None) -> Shown | None:
    if line is None:
        return None
    return Shown(**line | {"counts": tuple((index, number) for index, number in line["counts"])})


def _branch(line: dict[str, Any]) -> BranchPoint:
    one, other = line["logprobs"]
    pairs = {name: tuple(line[name]) for name in ("token_ids", "probabilities")}
    # JSON has no infinity: a logprob of null is that of a token of probability 0.
    logprobs = (-math.inf if one is None else one, -math.inf if other is None else other)
    return BranchPoint(**line | pairs | {"logprobs": logprobs})


class ResultStore:
    """Owns `results.jsonl`: what it holds, and every line that comes to it. A context manager.

    A process that dies while it writes leaves a torn last line; the next one cuts it off.

    Args:
        path: of the file, which is made if it is not there.

    Attributes:
        records: all results by cell and sample id, in the order of the file.
        num_torn: bytes that were cut off.
        session: number of this session, for the lines that it writes.

    Raises:
        StoreError: the file cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        with reported(path):
            content = path.read_bytes() if path.exists() else b""
            self.records, num_whole = _read(content, path)
            self.num_torn = len(content) - num_whole
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if self.num_torn:
                os.ftruncate(self._file, num_whole)
        sessions = (record.session for record in self.records.values())
        self.session = max(sessions, default=-1) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)

    def append(self, record: PromptRecord) -> None:
        """Write a finished prompt through to the file: the whole line or nothing."""
        key = (record.cell, record.sample_id)
        assert key not in self.records, f"{key} is there already"
        line = encoded(to_line(record.to_json()))
        with reported(self.path):
            size = os.fstat(self._file).st_size
            try:
                _write(self._file, line)
            except OSError:
                os.ftruncate(self._file, size)
                raise
        self.records[key] = record

    def rewrite(self, records: Iterable[PromptRecord]) -> None:
        """Put these results in the place of all that there are: the whole file or nothing."""
        self.records = {(record.cell, record.sample_id): record for record in records}
        lines = (to_line(record.to_json()) for record in self.records.values())
        replace_file(self.path, lines)
        with reported(self.path):
            os.close(self._file)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)


def read_records(path: Path) -> list[PromptRecord]:
    """The results in a file that another process may be writing to.

    Raises:
        StoreError: as for a `ResultStore`.
    """
    with reported(path):
        records, _ = _read(path.read_bytes(), path)
    return list(records.values())


def _read(content: bytes, path: Path) -> tuple[dict[Key, PromptRecord], int]:
    """The records of a file, and how many of its bytes are whole lines."""
    records: dict[Key, PromptRecord] = {}
    *lines, torn = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = PromptRecord.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"line {number} of {path} is no result of this version") from error
        key = (record.cell, record.sample_id)
        if key in records:
            raise StoreError(f"line {number} of {path} repeats {key}; remove one of the two")
        records[key] = record
    return records, len(content) - len(torn)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
