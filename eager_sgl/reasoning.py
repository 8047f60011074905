"""Where the reasoning of a sequence ends, and the part that follows.

Reasoning ends where it closes first, whoever asks: the monitor, the judge, a program. A later
marker is part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["decode_all", "final_text", "reasoning_ends_at"]

Decode = Callable[[Sequence[Sequence[int]]], list[str]]


def reasoning_ends_at(token_ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """The position behind the first occurrence of the marker; None if it does not occur."""
    size, wanted = len(marker), tuple(marker)
    if not size:
        return None
    for end in range(size, len(token_ids) + 1):
        if tuple(token_ids[end - size : end]) == wanted:
            return end
    return None


def final_text(text: str, marker_text: str) -> str | None:
    """The text behind the first occurrence of the marker; None if it does not occur."""
    _, found, final = text.partition(marker_text)
    return final if found else None


def decode_all(
    sequences: Sequence[Sequence[int]], decode: Decode, marker: Sequence[int], marker_text: str
) -> list[tuple[str, str]]:
    """For each sequence its text, and of that what follows the reasoning.

    The marker is looked for among the tokens, since a marker of special tokens leaves no text; then
    in the text, since a marker may share a token with what follows it. A sequence whose reasoning
    does not close has one text for both.

    Args:
        sequences: token ids.
        decode: gives the texts of several, special tokens left out; asked once.
        marker: the tokens that close the reasoning; empty if nothing does.
        marker_text: what they stand for.
    """
    ends = [reasoning_ends_at(ids, marker) for ids in sequences]
    tails = [ids[end:] for ids, end in zip(sequences, ends, strict=True) if end and ids[end:]]
    decoded = iter(decode([*sequences, *tails]))
    texts = [next(decoded) for _ in sequences]
    found = []
    for ids, end, text in zip(sequences, ends, texts, strict=True):
        if end is None:
            final = final_text(text, marker_text) if marker_text else None
        else:
            final = next(decoded) if ids[end:] else ""
        found.append((text, text if final is None else final))
    return found
