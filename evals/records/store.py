"""What a run brings, prompt by prompt, and the file that nothing is lost from."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import msgspec

from eager_sgl.adaptive_threshold import EntropyHistogram
from eager_sgl.core import (
    BranchPoint,
    DeferredBranch,
    FinishReason,
    PromptResult,
    Sequence,
    TokenCounts,
)
from evals.grading.score import Status
from evals.records.files import reported
from evals.records.lines import BadLine, LineFile, read_lines
from evals.records.plan import Cell
from evals.tasks import Message

__all__ = [
    "JudgedBy",
    "Key",
    "PromptRecord",
    "ResultStore",
    "SequenceRecord",
    "StageTwo",
    "read_records",
    "read_results",
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
        threshold: θ of stage one; None where the method does not branch, and at a adaptive θ.
        temperature: τ of sampling.
        seed: which repeat it is.
        sequences: those of stage one, then the extra ones.
        counts: what the sequences cost together, stage one's included.
        seconds: from the prompt's start to its last token, both stages added up.
        peak_entropy: mean over its stage-one sequences; None where no entropy was taken.
        solved: whether the verifier, or without one the labels, found a correct sequence in stage
            one; None without either.
        stage_two: None for a method of one stage.
        deferred: what `--stage-two resume` may open, best first.
        inexact_steps, entropy_histogram: see `eager_sgl.core.PromptResult`.
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
    deferred: tuple[DeferredBranch, ...] = ()
    inexact_steps: int | None = None
    entropy_histogram: EntropyHistogram | None = None
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
    def key(self) -> Key:
        """What there is at most one line for."""
        return self.cell, self.sample_id

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
            self.prompt_ids, sequences, self.counts, self.max_sequences, self.deferred
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
            ValueError, KeyError, TypeError: the line is not of a record, or a field is of another
                type, or refers to what is not there.
        """
        if unknown := line.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown field {min(unknown)!r}")
        points = [sequence["branch"] for sequence in line["sequences"] if sequence["branch"]]
        for point in (*points, *(deferred["point"] for deferred in line["deferred"])):
            # JSON has no infinity: a logprob of null is that of a token of probability 0.
            point["logprobs"] = [-math.inf if x is None else x for x in point["logprobs"]]
        record = msgspec.convert(line, cls)
        _require_references(record)
        return record


def _require_references(record: PromptRecord) -> None:
    """Every index of a record is one of its sequences'."""
    places = range(len(record.sequences))
    if not places:
        raise ValueError("no sequence")
    for index, sequence in enumerate(record.sequences):
        if (sequence.parent is None) != (sequence.branch is None):
            raise ValueError(f"sequence {index} has a parent without a branch, or the reverse")
        if sequence.parent is not None and sequence.parent not in places[:index]:
            raise ValueError(f"sequence {index} has the parent {sequence.parent}")
        if sequence.branch and sequence.branch.position not in range(len(sequence.token_ids)):
            raise ValueError(f"sequence {index} branches at {sequence.branch.position}")
        if sequence.vote is not None and sequence.vote not in places:
            raise ValueError(f"sequence {index} votes for {sequence.vote}")
    for deferred in record.deferred:
        if deferred.sequence not in places:
            raise ValueError(f"a branch of sequence {deferred.sequence} was deferred")


class ResultStore:
    """Owns `results.jsonl`: what it holds, and every line that comes to it. A context manager.

    Args:
        path: of the file, which is made if it is not there.
        keys: those that the run may have a result for; None for all.

    Attributes:
        records: all results by cell and sample id, in the order of the file.
        session: number of this session, for the lines that it writes.
        bad, num_torn: see `evals.records.lines.LineFile`.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, path: Path, keys: Container[Key] | None = None) -> None:
        self.path = path
        reader = _Reader(keys)
        self._lines = LineFile(path, reader.accept)
        self.records = reader.records
        self.bad, self.num_torn = self._lines.bad, self._lines.num_torn
        sessions = (record.session for record in self.records.values())
        self.session = max(sessions, default=-1) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.__exit__(*exception)

    def append(self, record: PromptRecord) -> None:
        """Write a finished prompt through to the file: the whole line or nothing."""
        assert record.key not in self.records, f"{record.key} is there already"
        self._lines.append(record.to_json())
        self.records[record.key] = record

    def rewrite(self, records: Iterable[PromptRecord]) -> None:
        """Put these results in the place of all that there are: the whole file or nothing."""
        self.records = {record.key: record for record in records}
        self._lines.rewrite(record.to_json() for record in self.records.values())


def read_results(
    path: Path, cells: Container[Cell] | None = None
) -> tuple[list[PromptRecord], list[BadLine]]:
    """The results in a file that another process may be writing to, and its bad lines.

    Args:
        path: of the file, which is left as it is.
        cells: those of the run; None for all.

    Raises:
        StoreError: the file cannot be read.
    """
    reader = _Reader(None, cells)
    with reported(path):
        bad, _ = read_lines(path.read_bytes(), reader.accept)
    return list(reader.records.values()), bad


def read_records(path: Path, cells: Container[Cell] | None = None) -> list[PromptRecord]:
    """As `read_results`, where the bad lines have been said already."""
    records, _ = read_results(path, cells)
    return records


class _Reader:
    """Takes the lines of a file in, and refuses what is no result of the run."""

    def __init__(self, keys: Container[Key] | None, cells: Container[Cell] | None = None) -> None:
        self.records: dict[Key, PromptRecord] = {}
        self._numbers: dict[Key, int] = {}
        self._keys, self._cells = keys, cells

    def accept(self, number: int, line: dict[str, Any]) -> None:
        record = PromptRecord.from_json(line)
        key = record.key
        if key in self.records:
            raise ValueError(f"the result of line {self._numbers[key]} again")
        if self._cells is not None and record.cell not in self._cells:
            raise ValueError("of no cell of this run")
        if self._keys is not None and key not in self._keys:
            raise ValueError("of no cell and prompt of this run")
        self.records[key] = record
        self._numbers[key] = number
