"""The trees of a run in the compact form that `assets/tree.js` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evals.analysis.groups import RecordGroup, group_records
from evals.records.plan import Plan
from evals.records.record import PromptRecord, SequenceRecord
from evals.report.page.texts import Texts, branch_position, pieces

__all__ = ["Trees", "trees_of"]

IS_CORRECT, IS_CUT_OFF, IS_EXTRA = 1, 2, 4  # flags of a sequence
MAX_CHARACTERS = 7_000_000
MAX_SEQUENCES = 60_000
GOOD_SIZES = range(4, 13)
"""Numbers of sequences of the trees that the page shows first."""


class Branch(NamedTuple):
    """A branch point: entropy, and the tokens and probabilities of parent and child."""

    entropy: float
    token: int
    alternative: int
    probability: float
    alternative_probability: float


class SequenceBar(NamedTuple):
    """A sequence; positions are in tokens, texts are numbers in `Trees.texts`."""

    parent: int | None
    start: int
    end: int
    flags: int
    answer: int | None
    explanation: int
    branch: Branch | None
    pieces: list[int]


Tree = list[SequenceBar]


class Prompt(NamedTuple):
    """A prompt as the page shows it."""

    sample_id: str
    level: int | None
    text: str


@dataclass(frozen=True)
class CellTrees:
    """The trees of a cell, and the tokens generated for each, by the number of the prompt."""

    label: str
    method: str
    trees: Mapping[int, Tree]
    generated: Mapping[int, int]


@dataclass(frozen=True)
class Trees:
    """The trees that a page shows.

    Attributes:
        shortened_to: characters of the longest text; None where no text was shortened.
        left_out: cells that would have made the page too large.
        first: cell and prompt to begin with.
    """

    prompts: list[Prompt]
    cells: list[CellTrees]
    texts: list[str]
    shortened_to: int | None
    left_out: int
    seed: int
    first: tuple[int, int]


def trees_of(plan: Plan, records: Sequence[PromptRecord]) -> Trees:
    """The trees of the first seed; where they are too many, those of the largest M."""
    groups = group_records(records, plan)
    seed = min((record.seed for record in records), default=0)
    drawn = _drawn(groups, seed)
    prompts = {record.sample_id: record for cell in drawn for record in cell}
    numbers = {name: number for number, name in enumerate(sorted(prompts))}
    texts = Texts()
    parts = "Mθτ" if len(plan.every_temperature) > 1 else "Mθ"
    cells = [
        CellTrees(
            label=cell[0].cell.label(parts),
            method=cell[0].method,
            trees={numbers[record.sample_id]: tree_of(record, texts) for record in cell},
            generated={numbers[record.sample_id]: record.counts.generated for record in cell},
        )
        for cell in drawn
    ]
    shortened, length = texts.shortened(MAX_CHARACTERS)
    return Trees(
        prompts=[Prompt(name, prompts[name].level, _text(prompts[name])) for name in numbers],
        cells=cells,
        texts=shortened,
        shortened_to=length,
        left_out=len(groups) - len(drawn),
        seed=seed,
        first=_first_view(drawn, numbers),
    )


def _drawn(groups: Sequence[RecordGroup], seed: int) -> list[list[PromptRecord]]:
    """The records of one seed, cell by cell, as far as a page can hold them."""
    chosen: dict[int, list[PromptRecord]] = {}
    left = MAX_SEQUENCES
    for index in sorted(range(len(groups)), key=lambda i: -groups[i].cell.max_sequences):
        records = [record for record in groups[index].records if record.seed == seed]
        size = sum(len(record.sequences) for record in records)
        if records and (size <= left or not chosen):
            chosen[index] = records
            left -= size
    return [chosen[index] for index in sorted(chosen)]


def _text(record: PromptRecord) -> str:
    """A prompt as text, its messages one after the other."""
    return "\n\n".join(str(message["content"]) for message in record.prompt)


def _first_view(
    drawn: Sequence[Sequence[PromptRecord]], numbers: Mapping[str, int]
) -> tuple[int, int]:
    """Cell and prompt to begin with: a tree of several sequences, correct and wrong ones."""

    def interest(choice: tuple[int, PromptRecord]) -> tuple[bool, bool, bool, int]:
        record = choice[1]
        size = len(record.sequences)
        branches = any(sequence.branch for sequence in record.sequences)
        is_mixed = any(record.correct) and not all(record.correct)
        return branches and size > 1, is_mixed, size in GOOD_SIZES, size

    choices = [(index, record) for index, records in enumerate(drawn) for record in records]
    if not choices:
        return 0, 0
    index, record = max(choices, key=interest)
    return index, numbers[record.sample_id]


def tree_of(record: PromptRecord, texts: Texts) -> Tree:
    """The sequences of a record; their texts are added to `texts`."""
    cut = pieces([s.text for s in record.sequences], record.sequences)
    return [
        SequenceBar(
            parent=sequence.parent,
            start=branch_position(sequence),
            end=len(sequence.token_ids),
            flags=_flags(sequence),
            answer=None if sequence.answer is None else texts.add(sequence.answer),
            explanation=texts.add(sequence.explanation),
            branch=_branch(sequence),
            pieces=[texts.add(piece) for piece in parts],
        )
        for sequence, parts in zip(record.sequences, cut, strict=True)
    ]


def _flags(sequence: SequenceRecord) -> int:
    is_cut_off, is_extra = sequence.finish_reason == "length", sequence.stage == 2
    return IS_CORRECT * sequence.correct + IS_CUT_OFF * is_cut_off + IS_EXTRA * is_extra


def _branch(sequence: SequenceRecord) -> Branch | None:
    branch = sequence.branch
    if branch is None:
        return None
    first, second = (round(probability, 3) for probability in branch.probabilities)
    return Branch(round(branch.entropy, 3), *branch.token_ids, first, second)
