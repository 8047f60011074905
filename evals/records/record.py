"""The result of one prompt in one cell: a line of `results.jsonl`, typed and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple, Self

import msgspec

from eager_sgl import BranchPoint, DeferredBranch, PromptResult, Sequence, TokenCounts
from eager_sgl.adaptive_threshold import EntropyHistogram
from eager_sgl.core import FinishReason
from evals.grading.score import Status
from evals.records.plan import Entry
from evals.records.schema import upgrade_line
from evals.tasks import Message

__all__ = [
    "Journal",
    "JudgedBy",
    "PromptRecord",
    "SequenceRecord",
    "StageTwo",
    "UntakenStep",
    "VoteCost",
]


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence of a prompt and the judgement on it.

    Attributes:
        parent: index of the sequence it branched off; None for the first of a tree.
        branch: where it left its parent, with the evidence.
        answer: extracted from the text; None where it gives none.
        explanation: of the judgement.
        vote: index of the prompt's first sequence with an equivalent answer; None without answer.
        stage: 1, or 2 for an extra sequence.
        status: whether the judge reached a judgement; see `evals.grading.score`.
        raw_logprob: of the whole sequence, at temperature 1; None where it is not known.
        final_text: the part of the text that was judged; None in lines of earlier versions.
        columns: values of every token, packed (`evals.records.columns`); None without `--record`.
        weight: of its vote under `vote`; 0 of a sequence that was cut. None counts as 1.
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
    columns: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class JudgedBy:
    """The basis of the judgements on a prompt, besides the sequences and the level.

    Attributes:
        reference: the fields of the reference answer; the digests of long ones.
        judges: the digest of the judges' source, and the versions of the libraries they use.
    """

    reference: Mapping[str, str]
    judges: Mapping[str, str]


@dataclass(frozen=True)
class StageTwo:
    """The extra sequences that reallocation gave to a prompt.

    Attributes:
        mode: "restart" (from the prompt) or "resume" (at deferred branches).
        eligible: whether the rule considered the prompt.
        extra_granted: maximum number of sequences beyond those of stage one.
        extra_used: number of those that were opened.
        threshold: θ' of the first try; that of stage one where nothing was granted.
        generated: tokens that the server decoded for the extra sequences.
    """

    mode: str
    eligible: bool
    extra_granted: int
    extra_used: int
    threshold: float
    generated: int = 0


@dataclass(frozen=True)
class VoteCost:
    """Tokens of a vote by what they were for, of those that the server decoded.

    Probes that ended samples that were left are in `left` too; one that ended another is on its
    sequence.

    Attributes:
        left: of samples that ran ahead and were left when the vote was decided.
        probes: of the answers to probes, those that ended sequences included.
        num_probes: number of probes.
    """

    left: int
    probes: int
    num_probes: int


class UntakenStep(NamedTuple):
    """A step at which a sequence might have branched, and did not.

    Attributes:
        sequence: index of the first sequence that holds it.
        position: of the step.
        entropy: in nats, at least θ; where branches are deferred, at least the lowest of theirs.
    """

    sequence: int
    position: int
    entropy: float


@dataclass(frozen=True)
class Journal:
    """What the decisions on a prompt's tree depended on besides its sequences, for `--replay`.

    Attributes:
        prompt: number of prompts before this one in the run's order; None where nothing depends on
            it, without methods of two stages.
        untaken: of EAGer-init; in a method of two stages those of the extra sequences alone. None
            lies behind the end of the reasoning.
        steps: of a search, the steps of each sequence behind its branch, packed
            (`evals.records.steps`); empty where it has none.
    """

    prompt: int | None = None
    untaken: tuple[UntakenStep, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PromptRecord(Entry):
    """A line of `results.jsonl`: the sequences of one prompt by one method, judged.

    Attributes:
        level: of difficulty; None in a task without.
        prompt_ids: its tokens, as the server encoded them.
        sequences: those of stage one, then the extra ones.
        counts: what the sequences cost together, stage one's included.
        seconds: from the prompt's start to its last token, the sum over both stages.
        peak_entropy: mean over its stage-one sequences; None where no entropy was taken.
        solved: whether the verifier, or without one the labels, found a correct sequence in stage
            one; None without either.
        stage_two: None for a method of one stage.
        deferred: the branches that `--stage-two resume` may open, best first.
        inexact_steps, entropy_histogram: see `eager_sgl.core.PromptResult`.
        session: of the run that wrote the line; 0 for the first, 1 after an interruption.
        elapsed: seconds that this session had worked on the line's group of cells.
        judged_by: what the judgements rest on; None in lines of earlier versions.
        journal: what the decisions depended on; None for Full Parallel, and in lines of earlier
            versions.
        vote_cost: of a vote; None for another method, and in lines of earlier versions.
    """

    level: int | None
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
    journal: Journal | None = None
    vote_cost: VoteCost | None = None

    @property
    def stage_two_mode(self) -> str | None:
        return self.stage_two.mode if self.stage_two else None

    @property
    def correct(self) -> list[bool]:
        """The judgement on each sequence."""
        return [sequence.correct for sequence in self.sequences]

    @property
    def votes(self) -> list[int | None]:
        """The vote of each sequence."""
        return [sequence.vote for sequence in self.sequences]

    @property
    def weights(self) -> list[float]:
        """The weight of each vote."""
        return [1.0 if s.weight is None else s.weight for s in self.sequences]

    def to_result(self) -> PromptResult:
        """The tree, as far as a second stage needs it."""
        sequences = tuple(
            Sequence(s.token_ids, (), s.finish_reason, s.parent, s.branch) for s in self.sequences
        )
        return PromptResult(
            self.prompt_ids, sequences, self.counts, self.max_sequences, self.deferred
        )

    def to_json(self) -> dict[str, object]:
        """The line's content; counts that follow from others are added."""
        derived = {"discarded": self.counts.discarded, "prefilled": self.counts.prefilled}
        line = asdict(self)
        return line | {"counts": line["counts"] | derived}

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> Self:
        """The record of a line, also of one of schema 1.

        Raises:
            ValueError, KeyError, TypeError: a field is unknown, missing or of another type, or
                refers to a sequence that the record does not have.
        """
        line = upgrade_line(content)
        if unknown := line.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown field {min(unknown)!r}")
        points = [sequence["branch"] for sequence in line["sequences"] if sequence["branch"]]
        for point in (*points, *(deferred["point"] for deferred in line["deferred"])):
            # JSON has no infinity: the logprob of a token of probability 0 is null.
            point["logprobs"] = [-math.inf if x is None else x for x in point["logprobs"]]
        record = msgspec.convert(line, cls)
        _require_references(record)
        return record


def _require_references(record: PromptRecord) -> None:
    """Raise ValueError for an index that is of no sequence of the record."""
    indices = range(len(record.sequences))
    if not indices:
        raise ValueError("no sequence")
    for index, sequence in enumerate(record.sequences):
        if (sequence.parent is None) != (sequence.branch is None):
            raise ValueError(f"sequence {index} has a parent without a branch, or the reverse")
        if sequence.parent is not None and sequence.parent not in indices[:index]:
            raise ValueError(f"sequence {index} has the parent {sequence.parent}")
        if sequence.branch and sequence.branch.position not in range(len(sequence.token_ids)):
            raise ValueError(f"sequence {index} branches at {sequence.branch.position}")
        if sequence.vote is not None and sequence.vote not in indices:
            raise ValueError(f"sequence {index} votes for {sequence.vote}")
    for deferred in record.deferred:
        if deferred.sequence not in indices:
            raise ValueError(f"a branch of sequence {deferred.sequence} was deferred")
