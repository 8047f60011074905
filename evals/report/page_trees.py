"""The trees of a run in the compact form that `assets/tree.js` draws.

A text is stored once: a sequence keeps its own text from where it left its parent, cut into pieces
where others left it. Only the texts of whole sequences are known, not those of tokens, so a piece
ends where the text of the one that left begins to differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eager_sgl.core import BranchPoint
from evals.records.store import PromptRecord, SequenceRecord

__all__ = ["Texts", "pieces", "tree"]

RIGHT, CUT_OFF, EXTRA = 1, 2, 4  # flags of a sequence
LIMITS = (100_000, 20_000, 8_000, 4_000, 2_000, 1_000, 500, 200, 80)


class Texts:
    """Distinct texts by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """The number of a text, the same for the same text."""
        return self._numbers.setdefault(text, len(self._numbers))

    def shortened(self, budget: int) -> tuple[list[str], int | None]:
        """All texts, and the length they were shortened to so that together they fit a budget.

        The middle of a long text is left out; None where nothing had to be.
        """
        texts = list(self._numbers)
        if sum(map(len, texts)) <= budget:
            return texts, None
        limit = next((n for n in LIMITS if _total(texts, n) <= budget), LIMITS[-1])
        return [_shorten(text, limit) for text in texts], limit


def _total(texts: Iterable[str], limit: int) -> int:
    return sum(min(len(text), limit) for text in texts)


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"


def tree(record: PromptRecord, texts: Texts) -> list[list[Any]]:
    """One list per sequence: parent, start, end, flags, answer, explanation, branch, pieces.

    Positions are in tokens; texts are numbers in `texts`.
    """
    cut = pieces([s.text for s in record.sequences], record.sequences)
    return [
        [
            sequence.parent,
            sequence.branch.position if sequence.branch else 0,
            len(sequence.token_ids),
            _flags(sequence),
            None if sequence.answer is None else texts.add(sequence.answer),
            texts.add(sequence.explanation),
            sequence.branch and _branch(sequence.branch),
            [texts.add(piece) for piece in own],
        ]
        for sequence, own in zip(record.sequences, cut, strict=True)
    ]


def _flags(sequence: SequenceRecord) -> int:
    cut_off = sequence.finish_reason == "length"
    return RIGHT * sequence.correct + CUT_OFF * cut_off + EXTRA * (sequence.stage == 2)


def _branch(branch: BranchPoint) -> list[Any]:
    chances = [round(chance, 3) for chance in branch.probabilities]
    return [round(branch.entropy, 3), *branch.token_ids, *chances]


def pieces(texts: Sequence[str], sequences: Sequence[SequenceRecord]) -> list[list[str]]:
    """Each sequence's own text, cut where its children left it, in the order of their positions.

    The pieces of a parent up to a child's cut, and those of its own parents before, followed by the
    child's pieces, are the child's text exactly.
    """
    children = _children(sequences)
    starts = [0] * len(texts)
    # Two different tokens may begin alike, so a shared text can only be too long: no cut may lie
    # behind a later one, nor behind a cut of the text that it begins.
    for index in reversed(range(len(texts))):
        parent = sequences[index].parent
        bound = 0 if parent is None else _shared(texts[parent], texts[index])
        limit = len(texts[index])
        for child in reversed(children[index]):
            limit = starts[child] = min(limit, starts[child])
        starts[index] = min(bound, limit)
    return [
        _split(text, [starts[index], *(starts[child] for child in children[index])])
        for index, text in enumerate(texts)
    ]


def _children(sequences: Sequence[SequenceRecord]) -> list[list[int]]:
    """Of each sequence, in the order in which they left it."""
    children: list[list[int]] = [[] for _ in sequences]
    for index, sequence in enumerate(sequences):
        if sequence.parent is not None:
            children[sequence.parent].append(index)
    for found in children:
        found.sort(key=lambda child: _position(sequences[child]))
    return children


def _position(sequence: SequenceRecord) -> int:
    return sequence.branch.position if sequence.branch else 0


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin alike with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _split(text: str, cuts: Sequence[int]) -> list[str]:
    ends = [*cuts[1:], len(text)]
    return [text[start:end] for start, end in zip(cuts, ends, strict=True)]
