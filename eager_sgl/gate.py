"""The entropy gate: the server itself ends a request where a branch may be.

Without it, the client finds branch points by looking at the distributions of chunks, after the
fact: every step's top K travel, and what was generated past a branch point may be discarded. A
gated request asks for no logprobs and stops exactly before a step whose entropy reaches θ, because
a *custom logit processor* (an extension point of SGLang, `--enable-custom-logit-processor`) then
forces a stop token that is reserved for this. The forced token is dropped, and counted as
generated and discarded. The answer says what the step's distribution was, so that both sequences of
a branch can go on at once.

The reserved token cannot be drawn while the gate is closed, or it would mean two things. That
leaves the distribution as it is but for this token's own probability. So it is chosen, when
connecting, among tokens that stand for no text (special tokens, control characters), as the one
that the model is least likely to write, and below 1 in 1000 at every place that was asked for;
top-p below 1 gives such a token no probability to begin with.
"""

from __future__ import annotations

import functools
import json
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Gate", "processor_text"]


@dataclass(frozen=True)
class Gate:
    """Where the server is to end a request.

    Attributes:
        threshold: θ in nats.
        top_k: K, how many tokens the entropy is taken over.
        temperature: of the distribution whose entropy is taken.
        token_id: the reserved token that a stop is forced with.
    """

    threshold: float
    top_k: int
    temperature: float
    token_id: int

    def custom_params(self) -> dict[str, float]:
        """The request's `custom_params`."""
        return {
            "eager_theta": self.threshold,
            "eager_k": self.top_k,
            "eager_temperature": self.temperature,
            "eager_token": self.token_id,
        }


class _Shipped:
    """Unpickles to the class that a Python text defines, wherever the text's own file is unknown.

    Pickled functions hold bytecode, which another version of Python cannot run; text it can.
    """

    def __init__(self, text: str, name: str) -> None:
        self._known = {"packed": zlib.compress(text.encode(), 9), "__name__": "eager_gate"}
        self._expression = f"exec(__import__('zlib').decompress(packed), globals()) or {name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self._expression, self._known)


@functools.cache
def processor_text() -> str:
    """The `custom_logit_processor` of a request, in the form of SGLang's `to_str()`."""
    text = Path(__file__).with_name("gate_processor.py").read_text(encoding="utf-8")
    return json.dumps({"callable": pickle.dumps(_Shipped(text, "EntropyGate"), protocol=4).hex()})
