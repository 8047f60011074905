"""The sequences of a tree with their texts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from eager_sgl.core import Sequence
from eager_sgl.engine.replicas import Replicas
from eager_sgl.reasoning import decode_all
from eager_sgl.schedule import Leaf, sequences_of

__all__ = ["Reader"]


class Reader:
    """Decodes each finished sequence of a tree once.

    Args:
        replicas: decode the tokens.
        marker: the tokens of `reasoning_end`.
        reasoning_end: the text that closes the reasoning; empty if nothing does.
    """

    def __init__(self, replicas: Replicas, marker: tuple[int, ...], reasoning_end: str) -> None:
        self._replicas, self._marker, self._reasoning_end = replicas, marker, reasoning_end
        self._known: dict[Leaf, Sequence] = {}
        self._loop = asyncio.get_running_loop()

    def read(self, leaves: Iterable[Leaf]) -> tuple[Sequence, ...]:
        """The sequences of finished leaves; for other threads than the loop's."""
        return asyncio.run_coroutine_threadsafe(self.sequences(leaves), self._loop).result()

    async def sequences(self, leaves: Iterable[Leaf]) -> tuple[Sequence, ...]:
        """The sequences of leaves that have ended, or that end here."""
        leaves = tuple(leaves)
        if new := [leaf for leaf in leaves if leaf not in self._known]:
            bare = sequences_of(new)
            texts = await decode_all(
                [sequence.token_ids for sequence in bare],
                lambda ids: self._replicas.call(lambda client: client.decode_known(ids)),
                self._marker,
                self._reasoning_end,
            )
            for leaf, sequence, (text, final) in zip(new, bare, texts, strict=True):
                self._known[leaf] = replace(sequence, text=text, final_text=final)
        return tuple(self._known[leaf] for leaf in leaves)
