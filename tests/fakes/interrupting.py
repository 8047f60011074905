"""A scripted server that interrupts requests for tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from eager_sgl.engine.protocol import Json
from eager_sgl.errors import BrokenAnswerError
from tests.fakes.gates import reported_steps
from tests.fakes.scripted import ScriptedServer, first_tokens


class Interrupting(ScriptedServer):
    """Cuts answers off: at a number of tokens drawn beforehand, or after some reports of a θ.

    Neither moment depends on the tokens that are cut off.
    """

    probability = 0.0
    """Of an interruption per request; 0 while a client connects."""

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Json], Any] = lambda answer: answer,
        *options: Any,
        **more: Any,
    ) -> Any:
        body = build()
        params = body.get("sampling_params", {})
        is_cut = self._order.random() < self.probability
        custom = str(params.get("custom_params"))
        has_threshold = "threshold" in custom or "eager_theta" in custom
        if path != "/generate" or has_threshold or "stop_token_ids" not in params:
            return await super().post(path, lambda: body, decode, *options, **more)
        asked = params["max_new_tokens"]
        number = self.random_number(asked) if is_cut and asked else asked
        body = body | {"sampling_params": params | {"max_new_tokens": number}}
        answer = await super().post(path, lambda: body)
        # As SGLang does, even if the last token is a stop token.
        if number < asked and len(answer["output_ids"]) == number:
            answer["meta_info"]["finish_reason"] = {"type": "abort", "message": "told to stop"}
        return decode(answer)

    def random_number(self, limit: int) -> int:
        """The number of tokens that an answer is cut to."""
        return self._order.randrange(limit)

    def parts(self, answer: Json, body: Json) -> Iterator[Json]:
        """The stream: every step that the gate reports, with the tokens up to it."""
        steps = reported_steps(answer, body)
        if steps is None:
            yield from super().parts(answer, body)
            return
        left = self._order.randint(1, 3) if self._order.random() < self.probability else -1
        steps = [step for step in steps if step + 1 < len(answer["output_ids"])]
        for number, step in enumerate(steps, 1):
            yield first_tokens(answer, step + 1)
            if number == left:
                raise BrokenAnswerError("broken off")
