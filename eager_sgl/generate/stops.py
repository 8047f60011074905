"""The tokens that end sequences, as far as a tree has to know them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from eager_sgl.engine.replicas import Replicas

__all__ = ["StopTokens"]


class StopTokens:
    """Answers for a tree whether a token ends sequences.

    Args:
        replicas: asked about tokens, each once.
        given: tokens that end sequences besides the model's.
    """

    def __init__(self, replicas: Replicas, given: Iterable[int]) -> None:
        self._replicas = replicas
        self._known = dict.fromkeys(given, True)
        self._loop = asyncio.get_running_loop()

    async def learn(self, token_ids: Iterable[int]) -> None:
        """Ask about tokens before the tree depends on them."""
        if unknown := {token for token in token_ids if token not in self._known}:
            await asyncio.gather(*map(self._ask, unknown))

    async def _ask(self, token_id: int) -> None:
        self._known[token_id] = await self._replicas.call(
            lambda client: client.is_stop_token(token_id)
        )

    def __call__(self, token_id: int) -> bool:
        """Whether a token ends sequences.

        Another thread than the loop's waits for the answer about a token that was not learned. The
        loop cannot wait; there such a token counts as one that ends nothing. It is the last one of
        a request that was given up, or has just been opened (`TreeExecutor.end_opened`).
        """
        if token_id not in self._known:
            if self._is_in_loop():
                return False
            asyncio.run_coroutine_threadsafe(self._ask(token_id), self._loop).result()
        return self._known[token_id]

    def _is_in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False
