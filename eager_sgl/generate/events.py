"""Events: what happens to the sequences of a prompt while it runs.

Applied in order to an empty table, they give the sequences at every moment:

    match event:
        case SequenceOpened(sequence, parent, position, num_characters):
            token_ids, text = table.get(parent, ([], ""))
            table[sequence] = (token_ids[:position], text[:num_characters])
        case TokensAppended(sequence, _, new_ids, new_text):
            token_ids, text = table[sequence]
            table[sequence] = (token_ids + list(new_ids), text + new_text)
        case TokensWithdrawn(sequence, position, num_characters):
            token_ids, text = table[sequence]
            table[sequence] = (token_ids[:position], text[:num_characters])
        case SequenceWithdrawn(sequence):
            del table[sequence]

Decisions are replayed, so tokens and whole sequences may be withdrawn. `sequence` is an id within a
stream, counted from 0 in the order of appearance and never used again. Positions count generated
tokens from 0. A text has the complete characters of its tokens, special tokens left out; the rest
of a character that is not complete yet follows with later tokens. Numbers of characters are those
of a `str`.
"""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl.core import BranchPoint, FinishReason, PromptResult, TokenCounts

__all__ = [
    "Branched",
    "Completed",
    "CostChanged",
    "Event",
    "SequenceFinished",
    "SequenceOpened",
    "SequenceWithdrawn",
    "TokensAppended",
    "TokensWithdrawn",
]


@dataclass(frozen=True)
class SequenceOpened:
    """A sequence that holds the first `position` tokens of its parent.

    Later changes of the parent do not change it.

    Attributes:
        parent: the sequence it branched off; None for a sequence that starts at the prompt.
        position: number of shared tokens; 0 without a parent.
        num_characters: length of the text of the shared tokens.
    """

    sequence: int
    parent: int | None
    position: int
    num_characters: int = 0


@dataclass(frozen=True)
class Branched:
    """The evidence of a branch; follows the `SequenceOpened` of the child.

    Attributes:
        sequence: the parent.
        child: the new sequence.
        point: the step at which the child left.
    """

    sequence: int
    child: int
    point: BranchPoint


@dataclass(frozen=True)
class TokensAppended:
    """New tokens at the end of a sequence.

    Attributes:
        position: of the first of them.
        token_ids: sampled and forced tokens; empty where an incomplete character ends a sequence,
            and only its text is left.
        text: the characters that they complete, to be appended to the sequence's text.
    """

    sequence: int
    position: int
    token_ids: tuple[int, ...]
    text: str = ""


@dataclass(frozen=True)
class TokensWithdrawn:
    """The end of a sequence that a later decision took back; a finished sequence runs again.

    Attributes:
        position: number of tokens that remain.
        num_characters: length of their text.
    """

    sequence: int
    position: int
    num_characters: int = 0


@dataclass(frozen=True)
class SequenceWithdrawn:
    """A sequence whose branch a later decision took back; no further event has its id."""

    sequence: int


@dataclass(frozen=True)
class SequenceFinished:
    """A sequence that has ended; it may still be withdrawn, or lose tokens and run again."""

    sequence: int
    finish_reason: FinishReason


@dataclass(frozen=True)
class CostChanged:
    """The cost so far.

    Attributes:
        counts: of the prompt.
        num_running: number of sequences that have not ended.
    """

    counts: TokenCounts
    num_running: int


@dataclass(frozen=True)
class Completed:
    """The last event of a stream.

    Attributes:
        result: of the prompt.
        sequences: the stream's ids of `result.sequences`.
    """

    result: PromptResult
    sequences: tuple[int, ...]


Event = (
    SequenceOpened
    | Branched
    | TokensAppended
    | TokensWithdrawn
    | SequenceWithdrawn
    | SequenceFinished
    | CostChanged
    | Completed
)
