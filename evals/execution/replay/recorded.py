"""The recorded sequences of one tree, compared with what a schedule decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from eager_sgl import BranchPoint, TokenCounts
from eager_sgl import Sequence as Generated
from eager_sgl.schedule import Leaf
from evals.records.plan import PARALLEL
from evals.records.record import Journal, PromptRecord, SequenceRecord, UntakenStep

__all__ = [
    "DisagreementError",
    "NotRecordedError",
    "RecordedTree",
    "journal_of",
    "require_counts",
]

NO_JOURNAL = "written by an earlier version, without a journal"


class DisagreementError(Exception):
    """A schedule decides otherwise than the record; the message says where."""


class NotRecordedError(Exception):
    """The record lacks what a decision depended on; the message says what."""


@dataclass(frozen=True)
class RecordedTree:
    """The recorded sequences of one tree, their indices and parents counted within it.

    Attributes:
        prompt_ids: the prompt's tokens.
        sequences: in the order of opening.
        max_new_tokens: length limit of a sequence in tokens.
        untaken: of EAGer-init, the steps that did not branch.
        steps: of a search, the packed steps by sequence.
        num_before: sequences of the prompt before these; messages add it to indices.
    """

    prompt_ids: tuple[int, ...]
    sequences: tuple[SequenceRecord, ...]
    max_new_tokens: int
    untaken: tuple[UntakenStep, ...] = ()
    steps: tuple[str, ...] = ()
    num_before: int = 0

    @classmethod
    def part(cls, record: PromptRecord, start: int, end: int, max_new_tokens: int) -> Self:
        """The tree of the sequences from `start` to `end` of a record."""
        journal = journal_of(record)
        untaken = (step._replace(sequence=step.sequence - start) for step in journal.untaken)
        return cls(
            record.prompt_ids,
            tuple(_shifted(sequence, start) for sequence in record.sequences[start:end]),
            max_new_tokens,
            untaken=tuple(step for step in untaken if 0 <= step.sequence < end - start),
            steps=journal.steps[start:end],
            num_before=start,
        )

    def of(self, leaf: Leaf) -> SequenceRecord:
        """The recorded sequence of a leaf.

        Raises:
            DisagreementError: there is none.
        """
        if leaf.index < len(self.sequences):
            return self.sequences[leaf.index]
        raise DisagreementError(
            f"the schedule opens {self._opening(leaf.index, leaf.parent, leaf.branch)}; the record "
            f"ends before it"
        )

    def read(self, leaves: Iterable[Leaf]) -> list[Generated]:
        """The recorded sequences of leaves, for the rules that see them."""
        return [_generated(self.of(leaf)) for leaf in leaves]

    def require_opened(self, leaves: Iterable[Leaf]) -> None:
        """Check where sequences begin, and their tokens so far.

        Raises:
            DisagreementError: a leaf is not the recorded sequence of its index.
        """
        for leaf in leaves:
            recorded = self.of(leaf)
            if _decision(leaf.parent, leaf.branch) != _decision(recorded.parent, recorded.branch):
                decided = self._opening(leaf.index, leaf.parent, leaf.branch)
                expected = self._opening(leaf.index, recorded.parent, recorded.branch)
                raise DisagreementError(f"the schedule opens {decided}; the record has {expected}")
            self._require_tokens(leaf, recorded.token_ids[: leaf.segment.end])

    def require_number(self, number: int, num_leaves: int) -> None:
        """Check that a schedule has opened so many sequences.

        Raises:
            DisagreementError: it has opened fewer.
        """
        if num_leaves < number:
            missing = self.sequences[num_leaves]
            opening = self._opening(num_leaves, missing.parent, missing.branch)
            raise DisagreementError(f"the schedule does not open {opening}, as the record has it")

    def require_all(self, leaves: Sequence[Leaf]) -> None:
        """Check that finished leaves are the recorded sequences, token for token.

        Raises:
            DisagreementError: they are not.
        """
        self.require_number(len(self.sequences), len(leaves))
        for leaf in leaves:
            self._require_tokens(leaf, self.of(leaf).token_ids)

    def _require_tokens(self, leaf: Leaf, recorded: Sequence[int]) -> None:
        decided = leaf.segment.path()
        if tuple(decided) == tuple(recorded):
            return
        pairs = zip((*decided, None), (*recorded, None), strict=False)
        position, (token, expected) = next((i, (a, b)) for i, (a, b) in enumerate(pairs) if a != b)
        raise DisagreementError(
            f"sequence {leaf.index + self.num_before} has {_named(token)} at position {position} "
            f"by the schedule; the record has {_named(expected)}"
        )

    def _opening(self, index: int, parent: int | None, branch: BranchPoint | None) -> str:
        """A sequence and where it begins, for messages."""
        text = f"sequence {index + self.num_before}"
        if parent is None or branch is None:
            return f"{text} at the prompt"
        taken, token = branch.token_ids
        by = "" if branch.priority is None else f", priority {branch.priority:.9g}"
        return (
            f"{text} off sequence {parent + self.num_before} at position {branch.position} (token "
            f"{token} beside {taken}{by})"
        )


def journal_of(record: PromptRecord) -> Journal:
    """The journal of a record; Full Parallel needs none.

    Raises:
        NotRecordedError: it has none.
    """
    if record.journal is not None:
        return record.journal
    if record.method == PARALLEL:
        return Journal()
    raise NotRecordedError(NO_JOURNAL)


def _shifted(sequence: SequenceRecord, start: int) -> SequenceRecord:
    """A sequence whose parent counts from `start` on."""
    parent = sequence.parent
    return sequence if parent is None else replace(sequence, parent=parent - start)


def _decision(parent: int | None, branch: BranchPoint | None) -> tuple[object, ...]:
    """What a schedule decides when it opens a sequence; the rest of a branch point is evidence."""
    if branch is None:
        return (parent,)
    return parent, branch.position, branch.token_ids, branch.priority


def _named(token: int | None) -> str:
    return "no token" if token is None else f"token {token}"


def _generated(recorded: SequenceRecord) -> Generated:
    return Generated(
        token_ids=recorded.token_ids,
        logprobs=(),
        finish_reason=recorded.finish_reason,
        parent=recorded.parent,
        branch=recorded.branch,
        text=recorded.text,
        final_text=recorded.text if recorded.final_text is None else recorded.final_text,
        raw_logprob=recorded.raw_logprob,
    )


def require_counts(recorded: TokenCounts, replayed: TokenCounts) -> None:
    """Check the counts that follow from the structure of a tree.

    Raises:
        DisagreementError: one differs.
    """
    for name in ("unique", "naive", "forced"):
        old, new = getattr(recorded, name), getattr(replayed, name)
        if old != new:
            raise DisagreementError(
                f"the sequences have {new} {name} tokens; the record counts {old}"
            )
