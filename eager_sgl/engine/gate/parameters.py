"""The entropy gate: the server itself says where a branch may be.

Without it, the client finds branch points by looking at the distributions of chunks, after the
fact: every step's top K travel, every chunk costs a request, and what was generated past a branch
point may be discarded. A watched request asks for no logprobs and runs to its end: a *custom logit
processor* (an extension point of SGLang, `--enable-custom-logit-processor`) computes the entropies
inside the server, and where one reaches θ it has the request's stream tell what there is to know of
that step. The sequence itself goes on without a pause as one of the two that a branch opens, or
alone where none is taken; only where it drew neither of the two most likely tokens is the rest of
it discarded.

The processor reads the logits and changes nothing.
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
    """Which steps of a request the server is to report.

    Attributes:
        threshold: θ in nats.
        top_k: K, how many tokens the entropy is taken over.
        temperature: of the distribution whose entropy is taken.
        max_reports: the first steps only; None for all. Each report costs the server a message.
    """

    threshold: float
    top_k: int
    temperature: float
    max_reports: int | None = None

    def custom_params(self) -> dict[str, float]:
        """The request's `custom_params`."""
        return {
            "eager_theta": self.threshold,
            "eager_k": self.top_k,
            "eager_temperature": self.temperature,
            "eager_max_reports": 2**31 if self.max_reports is None else self.max_reports,
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
    text = Path(__file__).with_name("processor.py").read_text(encoding="utf-8")
    return json.dumps({"callable": pickle.dumps(_Shipped(text, "EntropyGate"), protocol=4).hex()})
