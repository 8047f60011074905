"""The texts of trees: each is stored once, as pieces between branch points.

The text of a token is not known, only that of a whole sequence, so a piece ends where the text of
the sequence that left begins to differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evals.records.record import SequenceRecord

__all__ = ["Texts", "branch_position", "pieces"]

LENGTHS = (100_000, 20_000, 8_000, 4_000, 2_000, 1_000, 500, 200, 80)


class Texts:
    """Distinct texts by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """The number of a text, the same for equal texts."""
        return self._numbers.setdefault(text, len(self._numbers))

    def shortened(self, budget: int) -> tuple[list[str], int | None]:
        """All texts in at most `budget` characters, and the length that they were shortened to.

        The middle of a long text is left out. The length is None where no text was shortened.
        """
        texts = list(self._numbers)
        if sum(map(len, texts)) <= budget:
            return texts, None
        limit = next((n for n in LENGTHS if _total(texts, n) <= budget), LENGTHS[-1])
        return [_shorten(text, limit) for text in texts], limit


def _total(texts: Iterable[str], limit: int) -> int:
    return sum(min(len(text), limit) for text in texts)


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"


def pieces(texts: Sequence[str], sequences: Sequence[SequenceRecord]) -> list[list[str]]:
    """The text that each sequence adds, cut where its children left it, in order of position.

    The text of a child is exactly the pieces of its ancestors up to the cuts, and then its own.
    """
    children = _children(sequences)
    starts = [0] * len(texts)
    # Two different tokens may begin alike, so a shared text can only be too long: no cut may lie
    # behind a later one, nor behind a cut of the text that it begins.
    for index in reversed(range(len(texts))):
        parent = sequences[index].parent
        bound = 0 if parent is None else _num_shared(texts[parent], texts[index])
        limit = len(texts[index])
        for child in reversed(children[index]):
            limit = starts[child] = min(limit, starts[child])
        starts[index] = min(bound, limit)
    return [
        _split(text, [starts[index], *(starts[child] for child in children[index])])
        for index, text in enumerate(texts)
    ]


def _children(sequences: Sequence[SequenceRecord]) -> list[list[int]]:
    """The children of each sequence, in the order in which they left it."""
    children: list[list[int]] = [[] for _ in sequences]
    for index, sequence in enumerate(sequences):
        if sequence.parent is not None:
            children[sequence.parent].append(index)
    for siblings in children:
        siblings.sort(key=lambda child: branch_position(sequences[child]))
    return children


def branch_position(sequence: SequenceRecord) -> int:
    """Where a sequence left its parent; 0 for the first of a tree."""
    return sequence.branch.position if sequence.branch else 0


def _num_shared(left: str, right: str) -> int:
    """Length of the common prefix of two texts."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))


def _split(text: str, cuts: Sequence[int]) -> list[str]:
    ends = [*cuts[1:], len(text)]
    return [text[start:end] for start, end in zip(cuts, ends, strict=True)]
