"""A scripted server that interrupts requests for tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from eager_sgl.engine.protocol import GATE_REPORT, Json
from eager_sgl.errors import BrokenAnswerError
from tests.fakes.scripted import ScriptedServer


class Interrupting(ScriptedServer):
    """Cuts answers off: at a number of tokens drawn beforehand, or after some reports of a gate.

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
        if path != "/generate" or "custom_params" in params or "stop_token_ids" not in params:
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
        reports = answer["meta_info"].get(GATE_REPORT, [])
        left = self._order.randint(1, 3) if self._order.random() < self.probability else -1
        reports = [report for report in reports if report[0] + 1 < len(answer["output_ids"])]
        for number, (step, *_) in enumerate(reports, 1):
            meta = {"finish_reason": None, GATE_REPORT: reports[:number]}
            yield answer | {
                "output_ids": answer["output_ids"][: step + 1],
                "meta_info": answer["meta_info"] | meta,
            }
            if number == left:
                raise BrokenAnswerError("broken off")
