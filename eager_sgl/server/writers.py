"""Streams of trees: every sequence as a choice, or the best one as the only choice."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from typing import Protocol

from eager_sgl.generate.events import Event
from eager_sgl.server.answers import Answer, ReasoningSplit, Text, named_event
from eager_sgl.server.settled import Piece, Settled
from eager_sgl.server.voting.ballot import Ballot, Poll

__all__ = ["BestWriter", "ChoicesWriter", "Writer"]


class Writer(Protocol):
    """Writes a growing tree as server-sent events."""

    def write(self, change: Event) -> Iterator[bytes]:
        """The events of a change of the tree."""

    def end(self, texts: Items[Text]) -> Iterator[bytes]:
        """The events of the choices that are known at the end only."""


class _Votes:
    """Writes the votes of a tree, whenever they have changed."""

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._last: Ballot | None = None

    def new(self) -> bytes:
        """The event of the votes; none where they are as before."""
        ballot = self._poll.latest
        if ballot is None or ballot.votes is None or ballot == self._last:
            return b""
        self._last = ballot
        return named_event("vote", ballot.event)


class ChoicesWriter:
    """Writes every sequence as a choice, as it grows.

    Args:
        answer: its form.
        settled: pieces that no decision takes back.
        poll: the votes so far.
        with_events: whether branches, ends and votes have their events.
    """

    def __init__(self, answer: Answer, settled: Settled, poll: Poll, *, with_events: bool) -> None:
        self._answer, self._settled, self._with_events = answer, settled, with_events
        self._votes = _Votes(poll)
        self._splits: dict[int, ReasoningSplit | None] = {}

    def write(self, change: Event) -> Iterator[bytes]:
        for piece in self._settled.add(change):
            index = piece.sequence
            if index not in self._splits:
                self._splits[index] = self._answer.split()
                yield _branch(piece) if self._with_events else b""
                yield self._answer.opening(index)
            split, reason = self._splits[index], piece.finish_reason
            yield self._answer.piece(index, split, piece.text, reason)
            yield _finish(piece) if self._with_events else b""
        yield self._votes.new() if self._with_events else b""

    def end(self, texts: Items[Text]) -> Iterator[bytes]:
        yield self._votes.new() if self._with_events else b""


class BestWriter:
    """Writes the first sequence as it grows, then the best one.

    Which sequence is best is known at the end. Until then a chat has the first sequence as
    `reasoning_content`: its reasoning, or all of its text where the reasoning is not split.
    `content` is that of the best sequence alone, so that its pieces give the same content as an
    answer without a stream.

    Args:
        answer: its form.
        settled: pieces that no decision takes back.
        poll: the votes so far.
        with_events: whether texts, branches, ends and votes have their events.
    """

    def __init__(self, answer: Answer, settled: Settled, poll: Poll, *, with_events: bool) -> None:
        self._answer, self._settled, self._with_events = answer, settled, with_events
        self._votes = _Votes(poll)
        self._split, self._has_begun = answer.split(), False

    def write(self, change: Event) -> Iterator[bytes]:
        for piece in self._settled.add(change):
            yield self._opening()
            if self._with_events:
                yield _branch(piece) + _text(piece) + _finish(piece)
            if piece.is_root and self._answer.is_chat:
                yield self._progress(piece)
        yield self._votes.new() if self._with_events else b""

    def _opening(self) -> bytes:
        """The event before all others, which come with the first tokens."""
        has_begun, self._has_begun = self._has_begun, True
        return b"" if has_begun else self._answer.opening(0)

    def _progress(self, piece: Piece) -> bytes:
        text = piece.text
        if self._split is not None:
            text, _ = self._split.add(text, is_last=piece.finish_reason is not None)
        return self._answer.reasoning(0, text) if text else b""

    def end(self, texts: Items[Text]) -> Iterator[bytes]:
        yield self._opening()
        yield self._votes.new() if self._with_events else b""
        for text in texts:
            yield self._answer.rest(0, text)


def _branch(piece: Piece) -> bytes:
    """The event of a branch, before the first one of the new sequence."""
    if piece.point is None:
        return b""
    point = piece.point
    evidence = {"position": point.position, "entropy": point.entropy}
    tokens = {"token_ids": point.token_ids, "probabilities": point.probabilities}
    place = {"index": piece.sequence, "parent": piece.parent}
    return named_event("branch", place | evidence | tokens)


def _text(piece: Piece) -> bytes:
    if not piece.text:
        return b""
    return named_event("text", {"index": piece.sequence, "text": piece.text})


def _finish(piece: Piece) -> bytes:
    if piece.finish_reason is None:
        return b""
    return named_event("finish", {"index": piece.sequence, "finish_reason": piece.finish_reason})
