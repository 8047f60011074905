"""Scripted servers of the same model that are up or down at a test's wish."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from eager_sgl.engine.protocol import Json
from eager_sgl.engine.replicas import Replicas
from eager_sgl.errors import RequestRejectedError, ServerUnreachableError
from tests.fakes.scripted import VOCABULARY, ScriptedServer, is_of_prompt, mixed_distribution


class Replica(ScriptedServer):
    """A scripted server.

    Attributes:
        is_up: whether it answers; if not, requests fail at once.
        hangs: whether requests wait until it does not hang any more.
        running: ids of requests for tokens that it has not answered.
        shift: added to the logprobs of input tokens, as another rounding does.
        version: of its weights.
        vocabulary_size: as it reports it.
    """

    def __init__(self, url: str, *, model: int = 42, **options: Any) -> None:
        super().__init__(mixed_distribution(model), **options)
        self.url = url
        self.is_up, self.hangs = True, False
        self.running: set[str] = set()
        self.shift, self.version, self.vocabulary_size = 0.0, "default", 1000

    async def is_answering(self) -> bool:
        return self.is_up and not self.hangs

    async def _turn(self, path: str, body: Json) -> None:
        await super()._turn(path, body)
        while self.hangs:
            await asyncio.sleep(0.001)

    async def post(self, path: str, build: Callable[[], Json], *rest: Any, **options: Any) -> Any:
        body = build()
        if is_of_prompt(path, body):
            self.running.add(body["rid"])
        answer = await super().post(path, lambda: body, *rest, **options)
        self.running.discard(body.get("rid", ""))
        return answer

    async def notify(self, path: str, body: Json) -> bool:
        return self.is_up and not self.hangs and await super().notify(path, body)

    def answer(self, path: str, body: Json | None = None) -> Json:
        if not self.is_up:
            raise ServerUnreachableError(f"cannot reach an SGLang server at {self.url}: refused")
        if path == "/model_info":
            return super().answer(path) | {"weight_version": self.version}
        if body is not None and "logprob_start_len" in body:
            return self._with_input_logprobs(body)
        try:
            return super().answer(path, body)
        except RequestRejectedError as error:
            size = f"[0, {self.vocabulary_size - 1}]"
            raise RequestRejectedError(str(error).replace("[0, 999]", size)) from error

    def _with_input_logprobs(self, body: Json) -> Json:
        names = ("return_logprob", "logprob_start_len")
        answer = super().answer("/generate", {n: v for n, v in body.items() if n not in names})
        ids, prompt = tuple(body["input_ids"]), len(self.prompt)
        rows: list[list[Any]] = [[None, token, None] for token in ids[:1]]
        for index in range(1, len(ids)):
            probabilities = self.distribution(ids[prompt:index])
            is_drawn = index >= prompt and ids[index] < VOCABULARY
            logprob = math.log(probabilities[ids[index]]) if is_drawn else 0.0
            rows.append([logprob + self.shift, ids[index], None])
        return answer | {"meta_info": answer["meta_info"] | {"input_token_logprobs": rows}}


def servers(number: int, **options: Any) -> list[Replica]:
    return [Replica(f"http://replica-{index}", **options) for index in range(number)]


async def connected(*fakes: Replica) -> Replicas:
    return await Replicas.connect(fakes)
