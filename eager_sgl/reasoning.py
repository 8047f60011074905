"""The end of a sequence's reasoning, and the text after it.

Reasoning ends at the first marker, for monitors, judges and programs alike; a later marker is part
of the answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence

__all__ = ["decode_all", "final_text", "reasoning_ends_at"]

Decode = Callable[[Sequence[Sequence[int]]], Awaitable[list[str]]]


def reasoning_ends_at(token_ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """The position after the first occurrence of the marker; None if it does not occur."""
    size = len(marker)
    if not size:
        return None
    ids, wanted, start = list(token_ids), list(marker), 0
    with contextlib.suppress(ValueError):  # of `index`, where the first token is not there
        while True:
            start = ids.index(wanted[0], start) + 1
            if ids[start - 1 : start - 1 + size] == wanted:
                return start - 1 + size
    return None


def final_text(text: str, marker_text: str) -> str | None:
    """The text after the first occurrence of the marker; None if it does not occur."""
    _, separator, final = text.partition(marker_text)
    return final if separator else None


async def decode_all(
    sequences: Sequence[Sequence[int]], decode: Decode, marker: Sequence[int], marker_text: str
) -> list[tuple[str, str]]:
    """The texts of sequences, each with its part after the reasoning.

    The marker is searched in the tokens, since special tokens leave no text; then in the text,
    since the marker's last token may hold more than the marker. If the reasoning does not close,
    both texts are the same.

    Args:
        sequences: token ids.
        decode: token ids of several sequences -> their texts without special tokens; called once.
        marker: the tokens that close the reasoning; empty if nothing does.
        marker_text: the text of the marker.
    """
    ends = [reasoning_ends_at(ids, marker) for ids in sequences]
    tails = [ids[end:] for ids, end in zip(sequences, ends, strict=True) if end and ids[end:]]
    decoded = iter(await decode([*sequences, *tails]))
    texts = [next(decoded) for _ in sequences]
    pairs = []
    for ids, end, text in zip(sequences, ends, texts, strict=True):
        if end is None:
            final = final_text(text, marker_text) if marker_text else None
        else:
            final = next(decoded) if ids[end:] else ""
        pairs.append((text, text if final is None else final))
    return pairs
