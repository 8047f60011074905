"""Events of a growing tree -> pieces of text that no later decision takes back.

Server-sent events cannot be withdrawn. While sequences are monitored, a decision at a position
depends on all sequences up to that position: so tokens before the end of the shortest unfinished
sequence are settled. Searches and independent sequences withdraw no tokens, unless probes end them
at an earlier position: then a sequence is settled once it has finished.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from eager_sgl.core import BranchPoint, FinishReason
from eager_sgl.generate.events import (
    Branched,
    Completed,
    CostChanged,
    Event,
    SequenceFinished,
    SequenceOpened,
    SequenceWithdrawn,
    TokensAppended,
    TokensWithdrawn,
)

__all__ = ["Piece", "Settled"]


@dataclass(frozen=True)
class Piece:
    """A part of a sequence that stays.

    Attributes:
        sequence: number of the sequence, in the order of their first pieces.
        text: to append; the first piece has all text before a branch.
        finish_reason: with the last piece.
        parent: number of the sequence it left, None where that has no pieces yet, and
        point: the branch, with the first piece of a sequence that branched.
        is_root: whether the sequence is the first that was opened.
    """

    sequence: int
    text: str
    finish_reason: FinishReason | None = None
    parent: int | None = None
    point: BranchPoint | None = None
    is_root: bool = False


@dataclass
class _Path:
    """A sequence as the events give it.

    Attributes:
        ends: position and number of characters after every update of its text.
        start: position of its branch.
        num_sent: characters in pieces.
        number: in the pieces; None before the first.
    """

    text: str = ""
    ends: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    start: int = 0
    parent: int | None = None
    point: BranchPoint | None = None
    finish_reason: FinishReason | None = None
    num_sent: int = 0
    number: int | None = None
    is_over: bool = False

    @property
    def end(self) -> int:
        """Number of tokens."""
        return self.ends[-1][0]

    def truncate(self, position: int, num_characters: int) -> None:
        """Forget what follows a position."""
        assert num_characters >= self.num_sent, "settled text is not withdrawn"
        self.text, self.finish_reason = self.text[:num_characters], None
        self.ends = [end for end in self.ends if end[0] < position and end[1] <= num_characters]
        self.ends.append((position, num_characters))

    def append(self, num_tokens: int, text: str) -> None:
        """Add tokens and the characters that they complete."""
        self.text += text
        self.ends.append((self.end + num_tokens, len(self.text)))

    def settled_characters(self, horizon: float) -> int:
        """Number of characters whose tokens lie before a position."""
        return max((size for end, size in self.ends if end <= horizon), default=0)


class Settled:
    """Collects events, and returns the pieces that they settle.

    Args:
        may_withdraw: whether decisions may withdraw tokens.
        are_probed: whether probes may end sequences.
    """

    def __init__(self, *, may_withdraw: bool, are_probed: bool = False) -> None:
        self._may_withdraw, self._are_probed = may_withdraw, are_probed
        self._paths: dict[int, _Path] = {}
        self._num_sent = 0

    def add(self, event: Event) -> list[Piece]:
        """The pieces that an event settles; they come at the end of every update."""
        match event:
            case SequenceOpened(sequence, parent, position, num_characters):
                self._open(sequence, parent, position, num_characters)
            case Branched(_, child, point):
                self._paths[child].point = point
            case TokensAppended(sequence, _, token_ids, text):
                self._paths[sequence].append(len(token_ids), text)
            case TokensWithdrawn(sequence, position, num_characters):
                self._paths[sequence].truncate(position, num_characters)
            case SequenceWithdrawn(sequence):
                self._withdraw(sequence)
            case SequenceFinished(sequence, reason):
                self._paths[sequence].finish_reason = reason
            case CostChanged():
                return list(self._pieces(self._horizon()))
            case Completed():
                self._complete(event)
                return list(self._pieces(math.inf))
        return []

    def _withdraw(self, sequence: int) -> None:
        """Forget a sequence, or end it where text is settled: a decided vote leaves some."""
        if self._paths[sequence].number is None:
            del self._paths[sequence]
            return
        assert not self._may_withdraw, "a sequence with settled text is not withdrawn"
        self._paths[sequence].finish_reason = "abort"

    def _complete(self, event: Completed) -> None:
        for sequence, whole in zip(event.sequences, event.result.sequences, strict=True):
            self._paths[sequence].finish_reason = whole.finish_reason
        for path in self._paths.values():
            path.finish_reason = path.finish_reason or "abort"

    def _open(self, sequence: int, parent: int | None, position: int, num_characters: int) -> None:
        self._paths[sequence] = path = _Path(parent=parent, start=position)
        if parent is not None:
            path.text = self._paths[parent].text[:num_characters]
            shared = [end for end in self._paths[parent].ends if end[1] <= num_characters]
            path.ends = [end for end in shared if end[0] < position] + [(position, num_characters)]

    def _horizon(self) -> float:
        """The position before which nothing changes."""
        if not self._may_withdraw:
            return math.inf
        running = (path.end for path in self._paths.values() if path.finish_reason is None)
        return min(running, default=math.inf)

    def _pieces(self, horizon: float) -> Iterator[Piece]:
        for sequence, path in self._paths.items():
            if path.is_over or path.start >= horizon:
                continue
            if self._are_probed and path.finish_reason is None:
                continue
            end = path.settled_characters(horizon)
            path.is_over = path.finish_reason is not None and path.end <= horizon
            is_first = path.number is None
            if end > path.num_sent or path.is_over or (is_first and path.point is not None):
                yield replace(self._piece(path, end), is_root=sequence == 0)

    def _piece(self, path: _Path, end: int) -> Piece:
        text, path.num_sent = path.text[path.num_sent : end], end
        reason = path.finish_reason if path.is_over else None
        if path.number is not None:
            return Piece(path.number, text, reason)
        path.number, self._num_sent = self._num_sent, self._num_sent + 1
        parent = None if path.parent is None else self._paths.get(path.parent)
        number = None if parent is None else parent.number
        return Piece(path.number, text, reason, number, path.point)
