"""A scripted server that interrupts requests for tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from eager_sgl.engine.protocol import GATE_REPORT, Json
from eager_sgl.errors import BrokenAnswerError
from tests.fakes.scripted import ScriptedServer


class Interrupting(ScriptedServer):
    """Cuts answers off: at a number of tokens drawn beforehand, or after some reports of a gate.

    Both are moments that no token has chosen which did not come.
    """

    probability = 0.0
    """Of a request; while a client connects it is none."""

    def start(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Json], Any],
        done: Callable[[Any], None],
        progress: Callable[[Any], None] | None = None,
    ) -> None:
        def end(outcome: Any) -> None:
            broken = isinstance(outcome, Exception)
            done(BrokenAnswerError("broken off") if broken else outcome)

        super().start(path, build, decode, end, progress)

    def post(
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
            return super().post(path, lambda: body, decode, *options, **more)
        asked = params["max_new_tokens"]
        number = self.random_number(asked) if is_cut and asked else asked
        body = body | {"sampling_params": params | {"max_new_tokens": number}}
        answer = super().post(path, lambda: body)
        # SGLang says so even of a request whose last token was a stop token.
        if number < asked and len(answer["output_ids"]) == number:
            answer["meta_info"]["finish_reason"] = {"type": "abort", "message": "told to stop"}
        return decode(answer)

    def random_number(self, most: int) -> int:
        """Of tokens that an answer is cut to."""
        return self._order.randrange(most)

    def parts(self, answer: Json) -> Iterator[Json]:
        """What a stream passes on: each step that the gate reports, and the tokens up to it."""
        reports = answer["meta_info"].get(GATE_REPORT, [])
        left = self._order.randint(1, 3) if self._order.random() < self.probability else -1
        reports = [report for report in reports if report[0] + 1 < len(answer["output_ids"])]
        for number, (place, *_) in enumerate(reports, 1):
            meta = {"finish_reason": None, GATE_REPORT: reports[:number]}
            yield answer | {
                "output_ids": answer["output_ids"][: place + 1],
                "meta_info": answer["meta_info"] | meta,
            }
            if number == left:
                raise BrokenAnswerError("broken off")
