"""The gate's part of a request: its `custom_params`, and the text of its custom logit processor."""

from __future__ import annotations

import functools
import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gate", "processor_text"]

_UNLIMITED = 2**31


@dataclass(frozen=True)
class Gate:
    """The steps of a request that the server reports.

    Attributes:
        threshold: θ in nats.
        top_k: K, the number of tokens that the entropy is taken over.
        temperature: of the distribution whose entropy is taken.
        max_reports: only the first steps; None for all. A report costs the server a message.
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
            "eager_max_reports": _UNLIMITED if self.max_reports is None else self.max_reports,
        }


class _Shipped:
    """Unpickles to a class that a Python text defines, without the text's file.

    Pickled functions hold bytecode, which another version of Python cannot run; it can run text.
    """

    def __init__(self, text: str, name: str) -> None:
        self._known = {"packed": zlib.compress(text.encode(), 9), "__name__": "eager_gate"}
        self._expression = f"exec(__import__('zlib').decompress(packed), globals()) or {name}"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return eval, (self._expression, self._known)


@functools.cache
def processor_text() -> str:
    """The `custom_logit_processor` of a request, in the form of SGLang's `to_str()`."""
    text = Path(__file__).with_name("processor.py").read_text(encoding="utf-8")
    return json.dumps({"callable": pickle.dumps(_Shipped(text, "EntropyGate"), protocol=4).hex()})
