"""A scripted server that decodes token by token, and stops requests that are aborted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eager_sgl.engine.protocol import Json
from tests.fakes.scripted import (
    Distribution,
    ScriptedServer,
    first_tokens,
    is_of_prompt,
    mixed_distribution,
)

__all__ = ["DecodingServer", "endless"]

SECONDS_PER_STEP = 0.002


def endless(model: int) -> Distribution:
    """A mixed distribution whose sequences hardly ever end before their limit."""
    mixed = mixed_distribution(model)

    def distribution(path: tuple[int, ...]) -> tuple[float, ...]:
        probabilities = mixed(path)
        rest = 1 - probabilities[0]
        return (1e-9, *(p / rest * (1 - 1e-9) for p in probabilities[1:]))

    return distribution


class DecodingServer(ScriptedServer):
    """Decodes all running requests at the same pace. As SGLang, it ignores the abort of a request
    that has not arrived, and a closed connection ends its request.

    Args:
        stalls_after: tokens of a sequence after which requests wait for their aborts; None decodes
            to the end.

    Attributes:
        num_decoded: tokens of all requests.
        running: ids of the requests that run.
        stalled: ids of the running requests that wait.
        aborted: ids of running requests that were aborted.
    """

    def __init__(
        self, model: int = 1, *, allows_gate: bool = False, stalls_after: int | None = None
    ) -> None:
        super().__init__(endless(model), allows_gate=allows_gate)
        self._stalls_after = stalls_after
        self.num_decoded = 0
        self.running: set[str] = set()
        self.stalled: set[str] = set()
        self.aborted: set[str] = set()

    async def notify(self, path: str, body: Json) -> bool:
        await super().notify(path, body)
        await asyncio.sleep(SECONDS_PER_STEP)
        if body["rid"] in self.running:
            self.aborted.add(body["rid"])
        return True

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Json], Any] = lambda answer: answer,
        progress: Callable[[Any], None] | None = None,
        *options: Any,
        **more: Any,
    ) -> Any:
        body = build()
        if not is_of_prompt(path, body):
            return await super().post(path, lambda: body, decode, progress, *options, **more)
        await asyncio.sleep(SECONDS_PER_STEP)
        answer, rid = self.answer(path, body), body["rid"]
        interval = body["sampling_params"].get("stream_interval", 1)
        self.running.add(rid)
        try:
            for length in range(1, len(answer["output_ids"])):
                await asyncio.sleep(SECONDS_PER_STEP)
                self.num_decoded += 1
                if len(body["input_ids"]) - len(self.prompt) + length == self._stalls_after:
                    await self._wait_for_abort(rid)
                if rid in self.aborted:
                    reason: Json = {"type": "abort", "message": "Abort"}
                    return decode(first_tokens(answer, length, reason))
                if body.get("stream") and progress and length % interval == 0:
                    progress(decode(first_tokens(answer, length)))
            self.num_decoded += bool(answer["output_ids"])
            return decode(answer)
        finally:
            self.running.discard(rid)
            self.stalled.discard(rid)

    async def _wait_for_abort(self, rid: str) -> None:
        self.stalled.add(rid)
        while rid not in self.aborted:
            await asyncio.sleep(SECONDS_PER_STEP)
