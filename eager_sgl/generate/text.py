"""Texts of tokens while they arrive, from a server that detokenises.

A character may be spread over several tokens, and the text of a token may depend on those before
it. So tokens are decoded together with the tokens before them whose text is known, and only the
difference is new. Characters at its end that are not complete yet are decoded as U+FFFD, and wait
for later tokens. The texts of all sequences of an update are decoded in one request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, replace

from eager_sgl.generate.events import (
    Event,
    SequenceFinished,
    SequenceOpened,
    SequenceWithdrawn,
    TokensAppended,
    TokensWithdrawn,
)

__all__ = ["Decode", "Detokenizer"]

Decode = Callable[[list[tuple[int, ...]]], Awaitable[list[str]]]
"""Token sequences, none empty -> their texts, special tokens left out."""

INCOMPLETE = "\ufffd"
"""The character that stands for the bytes of an incomplete one."""
MIN_CONTEXT = 16
"""Tokens of known text, if there are as many, with which new ones are decoded."""


@dataclass(frozen=True, eq=False, slots=True)
class _Piece:
    """Tokens at whose end all characters are complete; sequences share those before a branch.

    Attributes:
        previous: the tokens before them; None at the prompt.
        token_ids: at least one, except at the prompt.
        end: position of the next token.
        num_characters: length of the sequence's text up to here.
    """

    previous: _Piece | None
    token_ids: tuple[int, ...]
    end: int
    num_characters: int


@dataclass(frozen=True, eq=False, slots=True)
class _Tail:
    """The end of a sequence: the last piece, and the tokens after it."""

    piece: _Piece
    token_ids: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Position of the next token."""
        return self.piece.end + len(self.token_ids)

    @property
    def in_context(self) -> tuple[int, ...]:
        """The tokens with those of the piece before them."""
        return self.piece.token_ids + self.token_ids

    def extended(self, token_ids: tuple[int, ...]) -> _Tail:
        """The tail with further tokens."""
        return _Tail(self.piece, self.token_ids + token_ids)

    def until(self, position: int) -> _Tail:
        """The tail of the tokens before a position."""
        piece, token_ids = self.piece, self.token_ids
        while piece.previous is not None and position < piece.end:
            piece, token_ids = piece.previous, piece.token_ids
        return _Tail(piece, token_ids[: position - piece.end])


_PROMPT = _Piece(None, (), 0, 0)


class Detokenizer:
    """Adds the texts to the events of a stream.

    Args:
        decode: one request.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tails: dict[int, _Tail] = {}
        self._num_characters: dict[int, int] = {}

    async def add_texts(self, events: Iterable[Event]) -> list[Event]:
        """The events of an update, or of several in a row, with their texts.

        After every event the text of a sequence is that of its tokens, without incomplete
        characters at its end. Those that a sequence ends with are appended before its
        `SequenceFinished`.

        If `decode` raises, nothing has changed, and the same events may be given again.
        """
        tails = dict(self._tails)
        steps = [(event, _tail_after(event, tails)) for event in events]
        texts = await self._texts([tail for _, tail in steps if tail is not None])
        filled: list[Event] = []
        for event, tail in steps:
            filled += [event] if tail is None else self._fill(event, tail, texts.get(tail, ""))
        self._tails = {
            sequence: self._complete(sequence, tail, texts.get(tail, ""))
            for sequence, tail in tails.items()
        }
        self._num_characters = {sequence: self._num_characters[sequence] for sequence in tails}
        return filled

    async def _texts(self, tails: Iterable[_Tail]) -> dict[_Tail, str]:
        """The text of each tail after its piece; tails without tokens have none."""
        growing = [tail for tail in tails if tail.token_ids]
        wanted = [ids for tail in growing for ids in (tail.piece.token_ids, tail.in_context)]
        texts: dict[tuple[int, ...], str] = {(): ""}
        if sequences := [ids for ids in dict.fromkeys(wanted) if ids]:
            texts |= zip(sequences, await self._decode(sequences), strict=True)
        return {
            tail: texts[tail.in_context][len(texts[tail.piece.token_ids]) :] for tail in growing
        }

    def _fill(self, event: Event, tail: _Tail, text: str) -> Iterator[Event]:
        """The event with its text, where `text` is that of the tail's tokens after its piece."""
        complete = tail.piece.num_characters + len(text.rstrip(INCOMPLETE))
        match event:
            case SequenceOpened(sequence, parent):
                limit = 0 if parent is None else self._num_characters[parent]
                self._num_characters[sequence] = min(complete, limit)
                yield replace(event, num_characters=self._num_characters[sequence])
            case TokensWithdrawn(sequence):
                self._num_characters[sequence] = min(complete, self._num_characters[sequence])
                yield replace(event, num_characters=self._num_characters[sequence])
            case TokensAppended(sequence):
                yield replace(event, text=self._report(sequence, tail, text.rstrip(INCOMPLETE)))
            case SequenceFinished(sequence):
                if rest := self._report(sequence, tail, text):
                    yield TokensAppended(sequence, tail.end, (), rest)
                yield event

    def _report(self, sequence: int, tail: _Tail, text: str) -> str:
        """The part of a text after the tail's piece that has not been reported."""
        num_known = self._num_characters[sequence] - tail.piece.num_characters
        self._num_characters[sequence] += len(text[num_known:])
        return text[num_known:]

    def _complete(self, sequence: int, tail: _Tail, text: str) -> _Tail:
        """The tail with its tokens in a piece, where their text has ended with a character."""
        if not text or text.endswith(INCOMPLETE):
            return tail
        previous, token_ids = tail.piece, tail.token_ids
        if previous.previous is not None and len(previous.token_ids) < MIN_CONTEXT:
            previous, token_ids = previous.previous, tail.in_context
        return _Tail(_Piece(previous, token_ids, tail.end, self._num_characters[sequence]))


def _tail_after(event: Event, tails: MutableMapping[int, _Tail]) -> _Tail | None:
    """Change the tails as an event does; that of its sequence, None if there is none."""
    match event:
        case SequenceOpened(sequence, parent, position):
            tails[sequence] = _Tail(_PROMPT) if parent is None else tails[parent].until(position)
        case TokensWithdrawn(sequence, position):
            tails[sequence] = tails[sequence].until(position)
        case TokensAppended(sequence, _, token_ids):
            tails[sequence] = tails[sequence].extended(token_ids)
        case SequenceFinished(sequence):
            pass
        case SequenceWithdrawn(sequence):
            del tails[sequence]
            return None
        case _:
            return None
    return tails[sequence]
